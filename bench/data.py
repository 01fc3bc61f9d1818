"""`thinwire bench data`: reading records beside DataLoader, np.memmap and pread; their order and balance."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from thinwire.bench import _balance, _cases, _command, _data_reading, _permutation, _report
from thinwire.cli._progress import Progress

_BALANCE_BAR, _INDEX_BAR_NS = 1.02, 60

HELP = """\
Reading shuffled records into batches of 64, beside torch's DataLoader at its best.

The records lie in one file, in the page cache but for the rows that say 'cold'. DataLoader gets two datasets,
one that returns rows of a memory map and one that calls pread, its own collate, shuffling, and 0, 1 and 2
workers that have started already; the fastest of the six counts. Files are written in the current folder: be
on the disk you mean.

examples:
  thinwire bench data --quick
  thinwire bench data --json data.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    _command.add_common(parser, quick="less data, fewer rounds")
    _cases.add_only(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, prints the tables, writes the JSON file. A missed bar is no error: machines differ."""
    effort = _cases.QUICK if args.quick else _cases.FULL
    facts: dict[str, Any] = {"benchmark": "data", "quick": args.quick, "machine": _report.machine()}
    print(_report.describe(facts["machine"]), flush=True)
    rows = _cases.run(_cases.matching(_data_reading.cases(), args.only), effort)
    print(f"\n{_cases.format_table(rows)}")
    progress = Progress()
    progress.show("samplers")
    index_ns, balance = _report.spread(_permutation.index_ns()), _balance.rows()
    progress.clear()
    print(f"\n{format_samplers(index_ns, balance)}")
    facts["rows"] = [row.as_dict() for row in rows]
    facts["index_ns"] = index_ns.as_dict()
    facts["balance"] = {
        cost: {how: each._asdict() for how, each in ways.items()} for cost, ways in balance.items()
    }
    if args.json:
        _report.write_json(args.json, facts)
    return 0


def format_samplers(index_ns: _report.Spread, balance: dict[str, dict[str, _balance.Balance]]) -> str:
    """What samplers take, and how even their batches are."""
    rows: list[list[str]] = [
        [f"{how}, cost {cost}", f"{each.epoch:.4f}", f"{each.worst_step:.4f}"]
        for cost, ways in balance.items()
        for how, each in ways.items()
    ]
    lengths = f"function lengths of the standard library, {_balance.RANKS} ranks"
    table: str = _report.table([lengths, "worst rank / mean", "in the worst step"], rows)
    return (
        f"{table}\nbar for balanced batches: at most {_BALANCE_BAR}\n\n"
        f"next index of {_permutation.SIZE:.0e} samples: {index_ns.median:.1f} ns "
        f"(bar: at most {_INDEX_BAR_NS})"
    )


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
