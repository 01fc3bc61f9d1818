"""`thinwire store sync`: a copy of a store elsewhere."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from thinwire._sizes import format_size
from thinwire.cli._store import _common

HELP = """\
Copy every version that the other store lacks, sending only the chunks that it lacks.

Where the other place holds no store, it becomes a replica, which opens with the same key and mends this one
(`get --replica`, `repair --replica`). Cut off and started again, it goes on where it was. Status 5: some
versions differ on the other side, or cannot be made there; they are named.

examples:
  thinwire store sync backup s3://bucket/backup
  thinwire store sync backup /mnt/second/backup --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("other", metavar="OTHER", help="where the copy is, or is to be made")


def run(args: argparse.Namespace) -> int:
    """Copies, and says how much it was."""
    with _common.open_store(args) as store, _common.bar(args, "sync") as progress:
        done = store.sync(args.other, progress=progress)
    lines = [
        f"{done.versions} versions copied",
        f"{format_size(done.sent)} sent, {format_size(done.already_there)} were there already",
        *(f"not copied: {label}, which the other store has differently" for label in done.conflicts),
    ]
    _common.report(args, asdict(done), "\n".join(lines))
    return _common.IN_THE_WAY if done.conflicts else 0
