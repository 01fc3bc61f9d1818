"""`thinwire store diff`: what two versions have different."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from thinwire._sizes import format_size
from thinwire.cli._store import _common

if TYPE_CHECKING:
    from thinwire.store.differences import Change, Range

HELP = """\
Show which files of a folder, tensors of a checkpoint, or bytes differ between two versions.

Ranges of bytes end where chunks end, so they are a little larger than what changed; little more than the
lists of chunks is read. Status 0: the versions are equal; 6: they differ.

examples:
  thinwire store diff backup data@1 data@2
  thinwire store diff backup model model-tuned --json        the newest versions of two names
"""

_MOST_RANGES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("a", metavar="A[@VERSION]")
    parser.add_argument("b", metavar="B[@VERSION]")


def run(args: argparse.Namespace) -> int:
    """Prints the differences."""
    from thinwire.store.differences import differences

    with _common.open_store(args) as store:
        changes = differences(store.reader(args.a), store.reader(args.b))
    facts = {"a": args.a, "b": args.b, "changes": [asdict(change) for change in changes]}
    text = "\n".join(_line(change) for change in changes) or f"{args.a} and {args.b} are equal"
    _common.report(args, facts, text)
    return _common.DIFFERENT if changes else 0


def _line(change: Change) -> str:
    words = [f"{change.how:7}", change.name]
    if change.how == "changed" and (change.a or change.b):
        size = format_size(sum(end - begin for begin, end in change.b))
        words.append(f"{size}: bytes {_ranges(change.a)} before, {_ranges(change.b)} now")
    words += [f"{key} {value} -> {change.facts_b[key]}" for key, value in change.facts_a.items()]
    return "  ".join(words)


def _ranges(ranges: list[Range]) -> str:
    shown = ", ".join(f"{begin}-{end}" for begin, end in ranges[:_MOST_RANGES])
    more = len(ranges) - _MOST_RANGES
    return (f"{shown} and {more} more" if more > 0 else shown) or "none"
