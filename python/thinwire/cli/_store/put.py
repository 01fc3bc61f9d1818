"""`thinwire store put`: a file, a folder or standard input as a new version of a name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from thinwire._sizes import format_size
from thinwire.cli._store import _common
from thinwire.errors import InvalidArgument

HELP = """\
Store a file, a folder or standard input (-) as a new version of a name.

When this returns, the version is on the disk and visible; until then nobody sees anything of it. Only what
the store does not have yet is written. The store is made where there is none.

Names are parts of letters, digits and ._- between slashes.

examples:
  thinwire store put backup run7/weights model.safetensors
  thinwire store put backup data corpus/ --metadata source=crawl-2024
  pg_dump db | thinwire store put s3://bucket/backup db -
  thinwire store put backup state state.pt --expect 4      only if 4 is still the newest version
  thinwire store put backup logs run.log --profile native:average=16384
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("name", metavar="NAME", help="what to store it as")
    parser.add_argument("source", metavar="SOURCE", help="a file, a folder, or - for standard input")
    parser.add_argument("--profile", help="how to cut it into chunks; default: native (64 KiB on average)")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=TEXT",
        help="text to keep with the version",
    )
    parser.add_argument(
        "--expect",
        type=_common.version_number,
        metavar="N",
        help="the version that has to be the newest, 0: none; status 5 otherwise",
    )
    parser.add_argument("--level", type=int, default=3, metavar="N", help="zstd's level, default 3")


def run(args: argparse.Namespace) -> int:
    """Stores it and says which version it became."""
    if args.source != "-" and not Path(args.source).exists():
        raise InvalidArgument(f"there is no file or folder {args.source}")
    source = sys.stdin.buffer if args.source == "-" else Path(args.source)
    with _common.open_store(args, create=True) as store, _common.bar(args, f"put {args.name}") as progress:
        version = store.put(
            args.name,
            source,
            profile=args.profile,
            metadata=dict(args.metadata),
            expect=args.expect,
            level=args.level,
            progress=progress,
        )
        size = store.reader(f"{version.name}@{version.version}").size
    _common.report(
        args,
        {"name": version.name, "version": version.version, "size": size},
        f"{version.name}@{version.version}  {format_size(size)}",
    )
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=TEXT")
    return key, value
