"""`thinwire bench pool`: host memory from a pool beside new memory, each with its bar."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from thinwire.bench import _command, _pool_speed, _pool_waste, _report
from thinwire.cli._progress import Progress

HELP = """\
Host memory from thinwire's pool, beside what programs use today.

What an allocation costs in C++, by one thread and by two; what an array costs in Python, beside NumPy, and
beside the pinned memory of torch and CuPy where there is a GPU; what rounding wastes on sizes that were
recorded from training, beside powers of two; and the first use of 2 GiB, beside one thread that touches it.
'bar' is what a figure has to reach.

examples:
  thinwire bench pool --quick
  thinwire bench pool --json pool.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    _command.add_common(parser, quick="fewer samples, 512 MiB in place of 2 GiB")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the tables, writes the JSON file. A missed bar is no error: machines differ."""
    effort = _pool_speed.QUICK if args.quick else _pool_speed.FULL
    facts: dict[str, Any] = {"benchmark": "pool", "quick": args.quick, "machine": _report.machine()}
    print(_report.describe(facts["machine"]), flush=True)
    progress = Progress()

    progress.show("allocate and free")
    facts["pairs"] = _pool_speed.measure_pairs(effort)
    show(progress, _pool_speed.format_pairs(facts["pairs"]))

    progress.show("arrays")
    facts["arrays"], facts["left_out"] = _pool_speed.measure_arrays(effort)
    show(progress, _pool_speed.format_arrays(facts["arrays"]))
    for name, reason in facts["left_out"].items():
        print(f"not measured: {name}: {reason}")

    progress.show("waste")
    facts["waste"] = _pool_waste.measure()
    show(progress, _pool_waste.format_table(facts["waste"]))

    progress.show("first use")
    facts["first_use"] = _pool_speed.measure_first_use(effort)
    show(progress, _pool_speed.format_first_use(facts["first_use"]))
    if args.json:
        _report.write_json(args.json, facts)
    return 0


def show(progress: Progress, table: str) -> None:
    """Prints a table where the progress line was."""
    progress.clear()
    print(f"\n{table}", flush=True)


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
