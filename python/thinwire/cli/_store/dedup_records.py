"""`thinwire store dedup-records`: exact duplicates out of sharded data."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from thinwire._sizes import format_size
from thinwire.cli._store import _common
from thinwire.store.records import DEFAULT_MEMORY, KINDS, dedup_records

HELP = """\
Copy files and folders without the records that were there before.

The first of equal records stays, in the order of the inputs and of the lines in them; a folder's files come
sorted by name. As with `cp -r`, DIR then holds every input under its own name. DIR must not exist, or be
empty; it appears whole or not at all, and the inputs are only read. The result does not depend on --threads
or --memory.

kinds of records:
  lines   every line, of text or of JSON Lines, byte by byte (the default)
  jsonl   every line, as JSON: order of keys and spaces do not matter; with --field only these are compared
  files   every file, by its content

Lines of files whose names end in .gz or .zst are read out of the compressed stream, and what stays is
compressed again; sizes are those of the files.

examples:
  thinwire store dedup-records shards/*.jsonl.zst --out clean
  thinwire store dedup-records corpus/ --out clean --memory 8GiB
  thinwire store dedup-records corpus/ --out clean --kind jsonl --field text
  thinwire store dedup-records images/ --out clean --kind files
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="files and folders, read in order")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder to make")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="what a record is; default: lines")
    parser.add_argument("--field", action="append", default=[], metavar="NAME", help="with --kind jsonl")
    parser.add_argument(
        "--memory",
        default=DEFAULT_MEMORY,
        metavar="SIZE",
        help=f"default {DEFAULT_MEMORY}; then the disk",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: every core")
    _common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Copies, and says what was left out."""
    with _common.bar(args, "dedup-records") as progress:
        done = dedup_records(
            args.inputs,
            args.out,
            kind=args.kind,
            fields=args.field,
            memory=args.memory,
            threads=args.threads,
            progress=progress,
        )
    saved = done.bytes_in - done.bytes_out
    text = (
        f"{done.records} records in {done.files} files, {done.duplicates} of them duplicates\n"
        f"{format_size(done.bytes_in)} in, {format_size(done.bytes_out)} out, {format_size(saved)} less"
    )
    _common.report(args, asdict(done), text)
    return 0
