"""Runs a benchmark's module as a script, the way `thinwire bench NAME` runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_common(parser: argparse.ArgumentParser, quick: str) -> None:
    """What every benchmark has: a quick form, `quick` says what is less there, and figures in a file."""
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")


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
