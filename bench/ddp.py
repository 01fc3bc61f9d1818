"""`thinwire bench ddp`: step times of DDP training over thin links, and the loss after equally many steps."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinwire.bench import _command, _ddp_losses, _ddp_steps, _report
from thinwire.cli._shaped import LinkError, choose_link, parse_rate

HELP = """\
Step times of DDP training over thin links; with --equal-steps the loss instead.

Two ranks on this machine train the demo's model. Step times: for each rate and method the median step at
DDP's default bucket size and at the best of a sweep, plain DDP's beside it. --equal-steps: on an unshaped
link, the mean training loss of the last steps of equally long runs, and the gap to plain DDP's.

examples:
  thinwire bench ddp --json ddp.json
  thinwire bench ddp --quick
  thinwire bench ddp --equal-steps --json loss.json
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured: the full run, or the quick one."""

    rates: tuple[str, ...]
    buckets_mb: tuple[float, ...]
    rounds: int
    steps: int
    loss_steps: int
    seeds: int


FULL = Effort(("100mbit", "1gbit"), (1.0, 2.0, 4.0, 8.0), rounds=2, steps=8, loss_steps=200, seeds=3)
QUICK = Effort(("100mbit",), (4.0,), rounds=1, steps=4, loss_steps=30, seeds=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    parser.add_argument("--equal-steps", action="store_true", help="compare losses instead of step times")
    parser.add_argument("--rates", nargs="+", metavar="RATE", help=f"default: {' '.join(FULL.rates)}")
    parser.add_argument(
        "--codecs", nargs="*", metavar="CODEC", help=f"default: {' '.join(_ddp_steps.CODECS)}"
    )
    parser.add_argument(
        "--buckets",
        nargs="+",
        type=float,
        metavar="MB",
        help=f"bucket_cap_mb beside DDP's default (default: {' '.join(f'{mb:g}' for mb in FULL.buckets_mb)})",
    )
    parser.add_argument("--seeds", type=int, help=f"runs a method with --equal-steps (default: {FULL.seeds})")
    parser.add_argument("--quick", action="store_true", help="fewer rates, buckets, steps and seeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measures, prints tables, writes the JSON file; 1 when a method failed."""
    effort = QUICK if args.quick else FULL
    facts: dict[str, Any] = {"benchmark": "ddp", "machine": _report.machine()}
    print(_report.describe(facts["machine"]), flush=True)
    compare = _compare_losses if args.equal_steps else _compare_steps
    failures: list[str] = []
    try:
        figures = compare(args, effort, failures)
    except (LinkError, ValueError) as error:
        print(f"thinwire bench ddp: {error}", file=sys.stderr)
        return 1
    if args.json:
        _report.write_json(args.json, facts | figures)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


def _compare_steps(args: argparse.Namespace, effort: Effort, failures: list[str]) -> dict[str, Any]:
    links = []
    for rate in args.rates or effort.rates:
        link = choose_link(parse_rate(rate))
        print(f"\n{link.describe()}\n", flush=True)
        facts = _ddp_steps.measure(
            link,
            _ddp_steps.CODECS if args.codecs is None else args.codecs,
            args.buckets or effort.buckets_mb,
            effort.rounds,
            effort.steps,
            failures,
        )
        print(_ddp_steps.format_tables(facts), flush=True)
        links.append(facts)
    return {"mode": "step times", "steps": effort.steps * effort.rounds, "links": links}


def _compare_losses(args: argparse.Namespace, effort: Effort, failures: list[str]) -> dict[str, Any]:
    seeds = args.seeds or effort.seeds
    print(
        f"\n{effort.loss_steps} steps, {seeds} seeds; loss: mean of the last {_ddp_losses.LAST_STEPS}\n",
        flush=True,
    )
    codecs = _ddp_losses.CODECS if args.codecs is None else args.codecs
    methods = _ddp_losses.measure(codecs, effort.loss_steps, seeds, failures)
    print(_ddp_losses.format_table(methods), flush=True)
    return {"mode": "equal steps", "steps": effort.loss_steps, "seeds": seeds, "methods": methods}


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
