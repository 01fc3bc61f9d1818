"""`thinwire store delete`: names and versions that are no longer wanted."""

from __future__ import annotations

import argparse

from thinwire.cli._store import _common

HELP = """\
Delete versions, or names with all their versions. `gc` frees the space.

examples:
  thinwire store delete backup run7/weights@3
  thinwire store delete backup run6/weights run7/weights
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("names", nargs="+", metavar="NAME[@VERSION]", help="without a version: all of them")


def run(args: argparse.Namespace) -> int:
    """Deletes them."""
    with _common.open_store(args) as store:
        for name in args.names:
            store.delete(name)
    _common.report(args, {"deleted": args.names}, f"deleted {', '.join(args.names)}; gc frees the space")
    return 0
