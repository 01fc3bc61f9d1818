"""`thinwire bench ddp`: step times of DDP training over thin links, and the loss after equally many steps."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thinwire.bench import _command, _ddp_clock, _ddp_gaps, _ddp_losses, _ddp_steps, _report
from thinwire.bench._ddp_losses import QUICK_METHODS, Matrix, Results
from thinwire.bench._ddp_plan import MODELS, OPTIMIZERS
from thinwire.cli._shaped import LinkError, choose_link, parse_rate

HELP = """\
Step times of DDP training over thin links; with --equal-steps the loss instead.

Step times: two ranks on this machine train the demo's model. For each rate and method the median step at
DDP's default bucket size and at the best of a sweep, plain DDP's beside it.

--equal-steps: four models, each trained for equally many steps on the same global batches with every method
and on each number of ranks: by how many percent the training loss of the last tenth of the steps ends above
plain DDP's, and how many bits a value went over the wire. All of it takes many hours. The file that --json
names is written after every run, and a later call goes on where it ends. With --wall-clock a step of each
method is timed over thin links as well; leave the machine alone for that.

examples:
  thinwire bench ddp --json ddp.json
  thinwire bench ddp --quick
  thinwire bench ddp --equal-steps --json loss.json --plot loss.png
  thinwire bench ddp --equal-steps --json loss.json --wall-clock 100mbit --plot-clock clock.png
  thinwire bench ddp --equal-steps --models char gru --ranks 2 --seeds 1 --steps 600 --optimizers adamw \\
    --methods 'thinwire/sign1;basis=4;warmup=20' torch/powersgd4:start=10
"""


@dataclass(frozen=True)
class Effort:
    """How much of the step times is measured: the full run, or the quick one."""

    rates: tuple[str, ...]
    buckets_mb: tuple[float, ...]
    rounds: int
    steps: int


FULL = Effort(("100mbit", "1gbit"), (1.0, 2.0, 4.0, 8.0), rounds=2, steps=8)
QUICK = Effort(("100mbit",), (4.0,), rounds=1, steps=4)
MATRIX = Matrix()
QUICK_MATRIX = Matrix(ranks=(2,), optimizers=OPTIMIZERS[:1], methods=QUICK_METHODS, seeds=1, steps=100)
_OF_STEP_TIMES = ("rates", "codecs", "buckets")
_OF_EQUAL_STEPS = ("models", "ranks", "optimizers", "methods", "seeds", "steps")

_OUTPUTS = ("plot", "wall_clock", "plot_clock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options; each is None unless given."""
    _command.add_common(parser, quick="less of everything: under three minutes")
    times = parser.add_argument_group("step times")
    times.add_argument("--rates", nargs="+", metavar="RATE", help=f"default: {' '.join(FULL.rates)}")
    times.add_argument("--codecs", nargs="*", metavar="CODEC", help=f"default: {' '.join(_ddp_steps.CODECS)}")
    times.add_argument(
        "--buckets",
        nargs="+",
        type=float,
        metavar="MB",
        help=f"bucket_cap_mb beside DDP's default (default: {' '.join(f'{mb:g}' for mb in FULL.buckets_mb)})",
    )
    losses = parser.add_argument_group("equal steps")
    losses.add_argument("--equal-steps", action="store_true", help="compare losses instead of step times")
    losses.add_argument("--models", nargs="+", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    losses.add_argument(
        "--ranks", nargs="+", type=int, metavar="N", help=f"default: {' '.join(map(str, MATRIX.ranks))}"
    )
    losses.add_argument(
        "--optimizers", nargs="+", metavar="NAME", help=f"default: {' '.join(MATRIX.optimizers)}"
    )
    losses.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="beside plain DDP: torch/fp16, torch/powersgdRANK:start=STEP, thinwire/CODEC, and with the"
        f" hook's options thinwire/CODEC;NAME=VALUE;... (default: {' '.join(MATRIX.methods[1:])})",
    )
    losses.add_argument("--seeds", type=int, metavar="N", help=f"runs a method (default: {MATRIX.seeds})")
    losses.add_argument("--steps", type=int, metavar="N", help=f"steps a run (default: {MATRIX.steps})")
    losses.add_argument("--plot", type=Path, metavar="FILE", help="draw bits against gap")
    losses.add_argument(
        "--wall-clock", metavar="RATE", help="also time the steps of every method at this rate"
    )
    losses.add_argument("--plot-clock", type=Path, metavar="FILE", help="draw loss against time at that rate")


def run(args: argparse.Namespace) -> int:
    """Measures, prints tables, writes the files; 1 when a method failed."""
    failures: list[str] = []
    try:
        _refuse(args, _OF_STEP_TIMES if args.equal_steps else (*_OF_EQUAL_STEPS, *_OUTPUTS))
        facts: dict[str, Any] = {"benchmark": "ddp", "machine": _report.machine()}
        print(_report.describe(facts["machine"]), flush=True)
        compare: Callable[..., None] = _compare_losses if args.equal_steps else _compare_steps
        compare(args, facts, failures)
    except (LinkError, ValueError) as error:
        print(f"thinwire bench ddp: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


def _refuse(args: argparse.Namespace, names: tuple[str, ...]) -> None:
    """ValueError where one of these options is given: they are of the other comparison."""
    for name in names:
        if getattr(args, name) is not None:
            other = "without" if args.equal_steps else "with"
            raise ValueError(f"--{name.replace('_', '-')} goes {other} --equal-steps")


def _compare_steps(args: argparse.Namespace, facts: dict[str, Any], failures: list[str]) -> None:
    effort = QUICK if args.quick else FULL
    links = []
    for rate in args.rates or effort.rates:
        link = choose_link(parse_rate(rate))
        print(f"\n{link.describe()}\n", flush=True)
        figures = _ddp_steps.measure(
            link,
            _ddp_steps.CODECS if args.codecs is None else args.codecs,
            args.buckets or effort.buckets_mb,
            effort.rounds,
            effort.steps,
            failures,
        )
        print(_ddp_steps.format_tables(figures), flush=True)
        links.append(figures)
    if args.json:
        mode = {"mode": "step times", "steps": effort.steps * effort.rounds}
        _report.write_json(args.json, {**facts, **mode, "links": links})


def _compare_losses(args: argparse.Namespace, facts: dict[str, Any], failures: list[str]) -> None:
    if args.plot_clock and not args.wall_clock:
        raise ValueError("--plot-clock needs --wall-clock, the rate to draw")
    matrix = chosen_matrix(args)
    matrix.check()
    if (args.plot or args.plot_clock) and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("a plot needs matplotlib: pip install 'thinwire[bench]'")
    results = Results(args.json, facts, matrix.steps)
    print(
        f"\n{matrix.steps} steps a run, {len(matrix.runs())} runs, {len(results.runs)} in the file\n",
        flush=True,
    )
    _ddp_losses.measure(matrix, results, failures)
    entries = _ddp_gaps.summarise(results.runs)
    print(f"{_ddp_gaps.format_tables(entries)}\n\n{_ddp_gaps.format_cpus(results.runs)}", flush=True)
    results.write()
    if args.plot and entries:
        from thinwire.bench import _gap_chart

        _gap_chart.draw(entries, matrix.steps, args.plot)
    if args.wall_clock:
        _add_wall_clock(args, matrix, results, failures)


def _add_wall_clock(args: argparse.Namespace, matrix: Matrix, results: Results, failures: list[str]) -> None:
    link = choose_link(parse_rate(args.wall_clock))
    print(f"\n{link.describe()}\n", flush=True)
    todo = [case for case in matrix.cases() if not results.has_step_time(case, link.rate_bits)]
    _ddp_clock.measure(link, todo, results.add_step_time, failures)
    times = [entry for entry in results.step_times if entry["rate_bits"] == link.rate_bits]
    print(_ddp_clock.format_table(times), flush=True)
    if args.plot_clock and times:
        from thinwire.bench import _clock_chart

        _clock_chart.draw(results.runs, times, matrix.steps, matrix.optimizers[0], args.plot_clock)


def chosen_matrix(args: argparse.Namespace) -> Matrix:
    """The runs that were asked for."""
    given = {name: getattr(args, name) for name in _OF_EQUAL_STEPS if getattr(args, name) is not None}
    return replace(QUICK_MATRIX if args.quick else MATRIX, **given)


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
