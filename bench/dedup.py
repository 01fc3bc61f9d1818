"""`thinwire bench dedup`: cutting, hashing, storing and loading beside today's tools, each with its bar."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from thinwire.bench import _cases, _command, _dedup_checkpoints, _dedup_sizes, _dedup_speed, _report
from thinwire.bench._cases import Case

HELP = """\
Cutting, hashing, storing and loading, each beside today's tool for it.

Every round measures thinwire and then the baseline, so that their ratio is of the same moment; the table
shows medians. 'ratio' is how many times faster than the baseline, or where the bar says 'at most' the size
or the time as a share of the baseline's. 'bar' is what the ratio has to reach. A row whose package is not
installed says what to install. Files are written in the current folder: be on the disk you mean.

examples:
  thinwire bench dedup --quick
  thinwire bench dedup --only cuts BLAKE3      the rows with one of these words
  thinwire bench dedup --json dedup.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    _cases.add_only(parser)
    _command.add_common(parser, quick="less data, fewer rounds")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes the JSON file. A bar that is missed is no error: machines differ."""
    effort = _cases.QUICK if args.quick else _cases.FULL
    facts: dict[str, Any] = {"benchmark": "dedup", "quick": args.quick, "machine": _report.machine()}
    print(_report.describe(facts["machine"]), flush=True)
    rows = _cases.run(chosen(args.only), effort)
    print(f"\n{_cases.format_table(rows)}")
    facts["rows"] = [row.as_dict() for row in rows]
    if args.json:
        _report.write_json(args.json, facts)
    return 0


def chosen(only: list[str] | None) -> list[Case]:
    """All cases, or those with one of the texts."""
    every = [*_dedup_speed.cases(), *_dedup_sizes.cases(), *_dedup_checkpoints.cases()]
    return _cases.matching(every, only)


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
