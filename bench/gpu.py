"""`thinwire bench gpu`: kernels, copies and the hook on a GPU, each with its bar."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from thinwire.bench import (
    _cases,
    _command,
    _gpu_device,
    _gpu_hook,
    _gpu_ipc,
    _gpu_kernels,
    _gpu_memory,
    _report,
)
from thinwire.bench._cases import Case, LeftOut, Measured
from thinwire.errors import Error

HELP = """\
Kernels, copies and the hook on a GPU, each with its bar.

A kernel is timed in turn with the device's own copy, both by events on a stream. Its ratio is the share of
the copy's bandwidth that it reaches, counting the bytes that must move; GB/s count the same bytes. Copies
between the pool and the device are timed beside memory of cudaHostAlloc, steps of training beside steps
without a hook. Where there is no GPU, every row says so, and the exit status is 0: nothing was measured, and
nothing failed.

examples:
  thinwire bench gpu --quick
  thinwire bench gpu --only encode decode      the rows with one of these words
  thinwire bench gpu --json gpu.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    _cases.add_only(parser)
    _command.add_common(parser, quick="less data, fewer rounds")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes the JSON file; 1 when a row failed. A missed bar is no error."""
    effort = _gpu_device.QUICK if args.quick else _gpu_device.FULL
    device = _gpu_device.describe()
    facts: dict[str, Any] = {"benchmark": "gpu", "quick": args.quick, "machine": _report.machine()}
    facts |= {"device": device, "mebibytes": effort.mebibytes}
    print(_report.describe(facts["machine"]))
    print(device or f"{_gpu_device.NO_GPU}: not measured", flush=True)
    failures: list[str] = []
    rows = _cases.run([guarded(case, failures) for case in chosen(args.only)], effort)
    print(f"\n{_cases.format_table(rows)}")
    facts["rows"] = [row.as_dict() for row in rows]
    if args.json:
        _report.write_json(args.json, facts)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


def chosen(only: list[str] | None) -> list[Case]:
    """All cases, or those with one of the texts."""
    cases = [*_gpu_kernels.cases(), *_gpu_memory.cases(), *_gpu_hook.cases(), *_gpu_ipc.cases()]
    return _cases.matching(cases, only)


def guarded(case: Case, failures: list[str]) -> Case:
    """The same case, but one that fails is noted, and leaves the others their figures."""

    def measure(effort: _gpu_device.Effort) -> Measured:
        try:
            return case.measure(effort)
        except (Error, RuntimeError) as error:  # torch's own are RuntimeErrors
            failures.append(f"{case.what}, {case.baseline}: {error}")
            raise LeftOut(f"failed: {error}") from error

    return replace(case, measure=measure)


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
