"""`thinwire demo`: real training over a thin link, with PyTorch's ways and with thinwire's, side by side."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinwire.cli import _shaped

if TYPE_CHECKING:
    from thinwire.bench._ddp_runner import Runner
    from thinwire.cli._demo_results import Result

HELP = """\
Train a small transformer over a 100 Mbit/s link, with and without thinwire.

Two ranks on this machine, each in a network namespace with its own shaped NIC (no root needed), train a
character-level transformer on the standard library's sources. Every method starts from the same model and
trains for the same time after a short warm-up. At the end: a table, and a picture of loss against time.

Under torchrun it trains on torchrun's ranks, over the real network between them.

examples:
  thinwire demo
  thinwire demo --rate 1gbit --codecs int8 int4:block=128
  thinwire demo --quick --unshaped
  torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m thinwire demo
"""

BASELINES = ("plain", "fp16", "powersgd1")
CODECS = ("int8", "int4", "sign1", "topk:density=0.01")
WARMUP_STEPS = 3
"""Covers the first all-reduce, DDP's rebuild of its buckets, and the plain steps PowerSGD begins with."""

_COMPUTE_STEPS = 10
_BUDGET_S = 25.0
_QUICK_BUDGET_S = 3.0
_QUICK_BASELINES = ("plain",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's options."""
    parser.add_argument("--rate", default="100mbit", help="each NIC's rate, each way (default: %(default)s)")
    parser.add_argument("--unshaped", action="store_true", help="no shaping: plain loopback")
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help=f"training time a method after warm-up (default: {_BUDGET_S:g})",
    )
    parser.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help=f"PyTorch's ways besides plain: fp16, powersgdRANK (default: {' '.join(BASELINES[1:])})",
    )
    parser.add_argument(
        "--codecs",
        nargs="*",
        metavar="CODEC",
        default=CODECS,
        help=f"thinwire's codecs (default: {' '.join(CODECS)})",
    )
    parser.add_argument("--bucket", type=float, metavar="MB", help="bucket_cap_mb (default: DDP's own)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the model and the data (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_BUDGET_S:g} s a method, plain DDP the only baseline"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and curve as JSON")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        default=Path("demo.png"),
        help="the picture (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Trains with every method; 0 when all of them ended with equal replicas."""
    if importlib.util.find_spec("torch") is None:
        print(
            "thinwire demo trains with PyTorch, which is not installed: pip install 'thinwire[demo]'",
            file=sys.stderr,
        )
        return 1
    try:
        _check(args)
    except ValueError as error:
        print(f"thinwire demo: {error}", file=sys.stderr)
        return 2
    try:
        runner = _make_runner(args)
    except (_shaped.LinkError, ValueError) as error:
        print(f"thinwire demo: {error}", file=sys.stderr)
        return 1
    try:
        results = _train_all(runner, args)
    finally:
        runner.close()
    if runner.is_first:
        _present(runner, results, args)
    return int(any(result.error or not result.replicas_equal for result in results))


def methods(args: argparse.Namespace) -> list[str]:
    """The methods asked for, in the table's order; plain DDP, the measure of the others, is always first."""
    default = _QUICK_BASELINES if args.quick else BASELINES
    baselines = default if args.baselines is None else args.baselines
    return list(
        dict.fromkeys(
            [
                "torch/plain",
                *(f"torch/{name}" for name in baselines),
                *(f"thinwire/{codec}" for codec in args.codecs),
            ]
        )
    )


def budget_s(args: argparse.Namespace) -> float:
    """Seconds a method trains after warm-up."""
    if args.budget is not None:
        return float(args.budget)
    return _QUICK_BUDGET_S if args.quick else _BUDGET_S


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for what would fail only when its turn comes."""
    from thinwire.bench._ddp_plan import check_method, hook_options
    from thinwire.ddp import Options

    for method in methods(args):
        check_method(method)
    for name in args.codecs:
        codec, options = hook_options(name)
        Options.parse({"codec": codec, **options})
    for option, value in (("--budget", budget_s(args)), ("--bucket", args.bucket)):
        if value is not None and not value > 0:
            raise ValueError(f"{option} is {value:g}; it must be above 0")


def _make_runner(args: argparse.Namespace) -> Runner:
    from thinwire.bench._ddp_runner import LocalRunner, TorchrunRunner, under_torchrun

    if under_torchrun():
        return TorchrunRunner()
    return LocalRunner(_shaped.choose_link(_shaped.parse_rate(args.rate), args.unshaped))


def _train_all(runner: Runner, args: argparse.Namespace) -> list[Result]:
    """One result a method, the computation alone first."""
    from thinwire.bench._ddp_plan import Job
    from thinwire.bench._ddp_runner import JobFailed
    from thinwire.cli._demo_results import Live, Result

    live = Live(runner.is_first, budget_s(args))
    live.introduce(runner.link, runner.world_size, methods(args))
    results = []
    for number, method in enumerate(["none", *methods(args)]):
        limits: dict[str, Any] = (
            {"steps": _COMPUTE_STEPS} if method == "none" else {"budget_s": budget_s(args)}
        )
        job = Job(
            number,
            method,
            runner.link.kind,
            runner.link.rate_bits,
            warmup=WARMUP_STEPS,
            seed=args.seed,
            bucket_mb=args.bucket,
            codec_warmup=WARMUP_STEPS if args.quick else None,
            evaluate_every_s=None if method == "none" else max(1.0, budget_s(args) / 10),
            **limits,
        )
        try:
            result = Result(method, runner.run(job, live.follow(method)))
        except JobFailed as failure:
            result = Result(method, None, str(failure))
        live.finish(result)
        results.append(result)
    return results


def _present(runner: Runner, results: list[Result], args: argparse.Namespace) -> None:
    """Print the table; write the picture and the JSON file."""
    from thinwire.bench import _report
    from thinwire.cli import _chart, _demo_results

    print(_demo_results.format_table(runner.link, results, budget_s(args)))
    facts = _demo_results.as_dict(runner.link, runner.world_size, results, budget_s(args))
    print(f"\n{_report.describe(facts['machine'])}")
    if args.json:
        _report.write_json(args.json, facts)
        print(f"figures: {args.json}")
    if importlib.util.find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install 'thinwire[demo]').")
        return
    _chart.draw(results, runner.link, args.out)
    print(f"picture: {args.out}")
