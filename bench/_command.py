"""Runs a benchmark's module as a script, the way `thinwire bench NAME` runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def standalone(
    help_text: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
) -> int:
    """Parse this process's command line, run the benchmark and return its exit status."""
    parser = argparse.ArgumentParser(
        description=help_text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args())
