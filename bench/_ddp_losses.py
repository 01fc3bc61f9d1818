"""The losses of `bench ddp --equal-steps`: equally many steps of every method on the same batches."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from thinwire.bench import _report
from thinwire.bench._ddp_plan import label
from thinwire.bench._ddp_runner import LocalRunner, Session
from thinwire.cli._shaped import choose_link

BASELINES = ("torch/plain", "torch/fp16", "torch/powersgd1", "torch/powersgd1:start=10")
CODECS = ("int8", "int4", "sign1", "topk:density=0.01", "topk")
LAST_STEPS = 20
"""The steps over which a run's final loss is a mean."""


def measure(codecs: Sequence[str], steps: int, seeds: int, failures: list[str]) -> list[dict[str, Any]]:
    """One entry a method for JSON, plain DDP's first; what failed joins `failures`."""
    methods = [*BASELINES, *(f"thinwire/{codec}" for codec in codecs)]
    losses: dict[str, dict[int, dict[str, Any]]] = {method: {} for method in methods}
    with LocalRunner(choose_link(0, unshaped=True)) as runner:
        session = Session(runner, len(methods) * seeds)
        for seed in range(seeds):
            for method in methods:
                outcome = session.run(method, f"seed {seed}", steps=steps, warmup=0, seed=seed)
                if outcome is not None:
                    losses[method][seed] = outcome
        failures += session.failures
    plain = losses["torch/plain"]
    return [_loss_entry(method, losses[method], plain) for method in methods if losses[method]]


def format_table(entries: Sequence[dict[str, Any]]) -> str:
    """One row a method."""
    rows = []
    for entry in entries:
        gap = entry["gap_percent"]
        rows.append(
            [
                entry["label"],
                f"{entry['loss']:.4f}",
                f"{gap['mean']:+.2f} %" if gap else "-",
                f"{gap['low']:+.2f} .. {gap['high']:+.2f}" if gap else "-",
                f"{entry['wire_bytes_per_step'] / 1e6:.2f} MB",
                "equal" if entry["replicas_equal"] else "DIFFER",
            ]
        )
    return _report.table(["method", "loss", "gap to plain", "over the seeds", "wire/step", "replicas"], rows)


def _loss_entry(
    method: str, outcomes: dict[int, dict[str, Any]], plain: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Mean loss over the seeds, and the gap to plain DDP of the same seed in percent: mean, least, most."""
    final = {seed: _final_loss(outcome) for seed, outcome in outcomes.items()}
    gaps = [100 * (loss / _final_loss(plain[seed]) - 1) for seed, loss in final.items() if seed in plain]
    return {
        "method": method,
        "label": label(method),
        "loss": statistics.fmean(final.values()),
        "losses": list(final.values()),
        "gap_percent": {"mean": statistics.fmean(gaps), "low": min(gaps), "high": max(gaps)}
        if gaps
        else None,
        "wire_bytes_per_step": next(iter(outcomes.values()))["wire_bytes_per_step"],
        "replicas_equal": all(outcome["replicas_equal"] for outcome in outcomes.values()),
    }


def _final_loss(outcome: dict[str, Any]) -> float:
    return statistics.fmean(outcome["losses"][-LAST_STEPS:])
