"""`thinwire store du`: what takes how much space."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from thinwire._sizes import format_size
from thinwire._table import columns
from thinwire.cli._store import _common

HELP = """\
Show what takes how much space, name by name.

  logical   what all versions of the name hold
  unique    their distinct chunks, before compression
  stored    these chunks as they lie in the store
  own       the part of stored that no other name shares: what deleting the name would free

Garbage is what no version needs; gc frees it.

examples:
  thinwire store du backup
  thinwire store du backup run7/ --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")


def run(args: argparse.Namespace) -> int:
    """Prints the sizes."""
    from thinwire.store.usage import usage

    with _common.open_store(args) as store:
        names = usage(store, args.prefix)
        stats = store.stats()
    rows = [
        [
            each.name,
            str(each.versions),
            *(format_size(size) for size in (each.logical, each.unique, each.stored, each.own)),
        ]
        for each in names
    ]
    header = ["name", "versions", "logical", "unique", "stored", "own"]
    total = (
        f"in all: {stats.names} names, {stats.versions} versions, {stats.packs} packs\n"
        f"{format_size(stats.logical)} logical, {format_size(stats.unique)} unique, "
        f"{format_size(stats.stored)} stored: {stats.ratio:.2f} times smaller\n"
        f"{format_size(stats.garbage)} garbage"
    )
    text = f"{columns([header, *rows])}\n\n{total}"
    _common.report(args, {"names": [asdict(each) for each in names], "store": asdict(stats)}, text)
    return 0
