"""`thinwire store get`: one version back into a file, a folder or standard output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from thinwire._sizes import format_size
from thinwire.cli._store import _common
from thinwire.errors import InvalidArgument

HELP = """\
Write a version to a file, a folder (where a folder was stored), or standard output (-).

Every chunk is verified before it is written, and the file or folder appears whole or not at all. What is
damaged is taken from a --replica, or named, with status 3.

examples:
  thinwire store get backup run7/weights model.safetensors      the newest version
  thinwire store get backup data@2 restored/                    version 2 of a folder
  thinwire store get s3://bucket/backup db - | psql db
  thinwire store get backup data restored/ --replica s3://bucket/backup
"""

_WINDOW_BYTES = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("name", metavar="NAME[@VERSION]", help="without a version: the newest")
    parser.add_argument("out", metavar="OUT", help="a file or folder that does not exist yet, or -")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    _common.add_replicas(parser)


def run(args: argparse.Namespace) -> int:
    """Writes it."""
    with _common.open_store(args) as store, _common.bar(args, f"get {args.name}") as progress:
        if args.out == "-":
            reader = store.reader(args.name)
            if reader.metadata.get("kind") == "tree":
                raise InvalidArgument(f"{args.name} is a folder; name a folder to write it to")
            for window in reader.windows(_WINDOW_BYTES):
                sys.stdout.buffer.write(window)
            sys.stdout.buffer.flush()
            return 0
        out = Path(args.out)
        if out.is_file() and not args.force:
            raise InvalidArgument(f"{out} exists; --force replaces it")
        store.get(args.name, out, progress=progress)
        size = store.reader(args.name).size
    _common.report(args, {"out": args.out, "size": size}, f"{args.out}  {format_size(size)}")
    return 0
