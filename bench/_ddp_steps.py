"""The step times of `bench ddp`: every method at DDP's default bucket size and at those of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from thinwire.bench import _report
from thinwire.bench._ddp_plan import label
from thinwire.bench._ddp_runner import LocalRunner, Session
from thinwire.cli._shaped import Link, format_rate

BASELINES = ("torch/plain", "torch/fp16", "torch/powersgd1", "torch/powersgd4")
CODECS = ("int8", "int4", "sign1", "sign1;basis=0", "topk:density=0.01")
GOALS = {"int8": 2.8, "int4": 5.3, "sign1": 7.5, "topk:density=0.01": 7.5}
"""How many times shorter a step should be than plain DDP's at its best, at GOAL_RATE."""
BASIS_GOAL = ("sign1", "sign1;basis=0", 1.05)
"""A codec with a basis, the same without, and how many times as long a step may be with it, at GOAL_RATE."""
GOAL_RATE = 10**8

_WARMUP_STEPS = 3


def measure(
    link: Link,
    codecs: Sequence[str],
    buckets_mb: Sequence[float],
    rounds: int,
    steps: int,
    failures: list[str],
) -> dict[str, Any]:
    """The figures of one link for JSON: `rounds` times `steps` steps a case; what failed joins `failures`."""
    methods = [*BASELINES, *(f"thinwire/{codec}" for codec in codecs)]
    samples = _time_steps(link, list(_cases(methods, buckets_mb)), rounds, steps, failures)
    return _summarise(link, methods, samples)


def format_tables(facts: dict[str, Any]) -> str:
    """The table of one link, and under it, at the goals' rate, the goals."""
    tables = [_steps_table(facts)]
    if facts["rate_bits"] == GOAL_RATE:
        tables += [_goals_table(facts), _basis_table(facts)]
    return "\n\n".join(tables)


_Case = tuple[str, float | None]


def _cases(methods: Sequence[str], buckets_mb: Sequence[float]) -> Iterator[_Case]:
    """Every method with every bucket size; the computation alone has none, PowerSGD takes one bucket."""
    yield "none", None
    for method in methods:
        yield method, None
        if not method.startswith("torch/powersgd"):
            yield from ((method, size) for size in buckets_mb)


def _time_steps(
    link: Link, cases: Sequence[_Case], rounds: int, steps: int, failures: list[str]
) -> dict[_Case, dict[str, Any]]:
    """All step times of each case, in seconds; round after round, so that a drift of the machine hits all."""
    samples: dict[_Case, dict[str, Any]] = {}
    with LocalRunner(link) as runner:
        session = Session(runner, len(cases) * rounds)
        for _ in range(rounds):
            for method, bucket in cases:
                what = f"{_bucket_name(bucket)} at {format_rate(link.rate_bits)}"
                # No int4 steps at the beginning: what is timed is the codec itself.
                outcome = session.run(
                    method, what, steps=steps, warmup=_WARMUP_STEPS, bucket_mb=bucket, codec_warmup=0
                )
                if outcome is not None:
                    known = samples.setdefault((method, bucket), {"step_s": []})
                    known["step_s"] += outcome["step_s"]
                    known["wire_bytes_per_step"] = outcome["wire_bytes_per_step"]
                    known["hook"] = outcome["hook"]
        failures += session.failures
    return samples


def _bucket_name(bucket_mb: float | None) -> str:
    return "default buckets" if bucket_mb is None else f"buckets of {bucket_mb:g} MB"


def _summarise(link: Link, methods: Sequence[str], samples: dict[_Case, dict[str, Any]]) -> dict[str, Any]:
    """One entry a method that has figures: every bucket size, the medians at the default and the best."""
    entries = []
    for method in ("none", *methods):
        sizes = {bucket: sample for (name, bucket), sample in samples.items() if name == method}
        if not sizes:
            continue
        spreads = {bucket: _report.spread(sample["step_s"]) for bucket, sample in sizes.items()}
        best = min(spreads, key=lambda bucket: spreads[bucket].median)
        entries.append(
            {
                "method": method,
                "label": label(method),
                "default_ms": 1e3 * spreads[None].median if None in spreads else None,
                "best_ms": 1e3 * spreads[best].median,
                "best_bucket_mb": best,
                "wire_bytes_per_step": next(iter(sizes.values()))["wire_bytes_per_step"],
                "hook": next(iter(sizes.values()))["hook"],
                "buckets": [
                    {"bucket_mb": bucket, "step_s": value.as_dict()} for bucket, value in spreads.items()
                ],
            }
        )
    _add_ratios(entries)
    return {"kind": link.kind, "rate_bits": link.rate_bits, "methods": entries}


def _add_ratios(entries: list[dict[str, Any]]) -> None:
    """Plain DDP's time over each method's: both at the default, both at the best, best over default."""
    plain = next((entry for entry in entries if entry["method"] == "torch/plain"), None)
    for entry in entries:
        for name, ours, theirs in (
            ("ratio_default", "default_ms", "default_ms"),
            ("ratio_best", "best_ms", "best_ms"),
            ("ratio_default_to_plain_best", "default_ms", "best_ms"),
        ):
            entry[name] = _ratio(plain[theirs], entry[ours]) if plain is not None else None


def _steps_table(facts: dict[str, Any]) -> str:
    rows = []
    for entry in facts["methods"]:
        bucket = entry["best_bucket_mb"]
        rows.append(
            [
                entry["label"],
                _cell(entry["default_ms"], "{:.0f} ms"),
                f"{entry['best_ms']:.0f} ms",
                "default" if bucket is None else f"{bucket:g} MB",
                _cell(entry["ratio_default"], "{:.2f} x"),
                _cell(entry["ratio_best"], "{:.2f} x"),
                "-" if entry["method"] == "none" else f"{entry['wire_bytes_per_step'] / 1e6:.2f} MB",
            ]
        )
    return _report.table(
        ["method", "default", "best", "best bucket", "x default", "x best", "wire/step"], rows
    )


def _goals_table(facts: dict[str, Any]) -> str:
    """The goals at this rate, against plain DDP at its best bucket size."""
    entries = {entry["method"]: entry for entry in facts["methods"]}
    rows = []
    for codec, goal in GOALS.items():
        entry = entries.get(f"thinwire/{codec}")
        if entry is not None:
            at_default, at_best = entry["ratio_default_to_plain_best"], entry["ratio_best"]
            rows.append([codec, f"{goal:g} x", _cell(at_default, "{:.2f} x"), _cell(at_best, "{:.2f} x")])
    return _report.table(["against plain DDP at its best", "goal", "default buckets", "best buckets"], rows)


def _basis_table(facts: dict[str, Any]) -> str:
    """What a step with a basis takes of one without: at the default bucket size, and both at their best."""
    entries = {entry["method"]: entry for entry in facts["methods"]}
    codec, without, goal = BASIS_GOAL
    own, other = entries.get(f"thinwire/{codec}"), entries.get(f"thinwire/{without}")
    rows = []
    if own is not None and other is not None:
        ratios = [_ratio(own[time], other[time]) for time in ("default_ms", "best_ms")]
        rows.append([codec, f"{goal:g} x", *(_cell(ratio, "{:.2f} x") for ratio in ratios)])
    return _report.table(
        ["with its basis, of a step without", "at most", "default buckets", "best buckets"], rows
    )


def _ratio(time: float | None, of: float | None) -> float | None:
    return time / of if time is not None and of is not None else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
