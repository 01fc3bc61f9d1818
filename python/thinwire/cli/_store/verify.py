"""`thinwire store verify`: whether everything in a store is what it was."""

from __future__ import annotations

import argparse

from thinwire.cli._store import _common, _damage

HELP = """\
Check every object and every chunk, and name the files, tensors and bytes that damage hits.

Status 0: nothing is damaged; 3: something is. --quick checks only that all is there and has its size.

examples:
  thinwire store verify backup
  thinwire store verify backup --quick
  thinwire store verify backup --json | jq '.damage[].hits'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("--quick", action="store_true", help="do not read the chunks")


def run(args: argparse.Namespace) -> int:
    """Checks, and prints what is damaged."""
    with _common.open_store(args) as store, _common.bar(args, "verify") as progress:
        found = store.verify(deep=not args.quick, progress=progress)
        return _damage.show(args, store, found, "checked")
