"""The demo's results: one object a method, the live lines, the table, the dictionary for JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thinwire.bench import _report
from thinwire.bench._ddp_plan import label
from thinwire.cli._progress import Progress
from thinwire.cli._shaped import Link

_MODEL = "a character-level transformer (3.2 million parameters) on the standard library's sources"


@dataclass(frozen=True)
class Result:
    """What one method did: `outcome` as `bench/_ddp_job.py` makes it, or None and `error`."""

    method: str
    outcome: dict[str, Any] | None
    error: str = ""

    @property
    def label(self) -> str:
        """The method's name for people."""
        name: str = label(self.method)
        return name

    @property
    def step_ms(self) -> float | None:
        """Median step time of the second half in milliseconds: sparse codecs begin with int4 steps."""
        return (
            1e3 * _report.spread(self.outcome["step_s"][self.steps // 2 :]).median if self.outcome else None
        )

    @property
    def loss(self) -> float | None:
        """Loss on held-out text at the end; the computation alone has none."""
        losses = self.outcome["held_out_losses"] if self.outcome else []
        return losses[-1] if losses else None

    @property
    def steps(self) -> int:
        """Steps done after warm-up."""
        return len(self.outcome["losses"]) if self.outcome else 0

    @property
    def communicates(self) -> bool:
        """False for the computation alone, whose ranks train apart."""
        return self.method != "none"

    @property
    def replicas_equal(self) -> bool:
        """Whether all ranks ended with the same bits; ranks that train apart have nothing to keep equal."""
        return not self.communicates or (self.outcome is not None and bool(self.outcome["replicas_equal"]))


class Live:
    """Says on standard error what runs: a line that is rewritten on a terminal, plain lines elsewhere."""

    def __init__(self, speaks: bool, budget_s: float) -> None:
        self._speaks = speaks
        self._budget_s = budget_s
        self._progress = Progress()

    def introduce(self, link: Link, world_size: int, methods: Sequence[str]) -> None:
        """The head: task, link, how long it takes."""
        if self._speaks:
            print(f"{world_size} ranks train {_MODEL}.\n{link.describe()}", file=sys.stderr)
            print(
                f"{len(methods)} methods, each {self._budget_s:g} s after warm-up.\n",
                file=sys.stderr,
                flush=True,
            )

    def follow(self, method: str) -> Callable[[dict[str, Any]], None]:
        """What to call with each step of `method`."""
        name = label(method)
        if self._speaks:
            self._progress.show(f"{name}:", "starting")

        def show(step: dict[str, Any]) -> None:
            if not self._speaks:
                return
            if step["phase"] == "warm-up":
                detail = f"warm-up step {step['step']}"
            else:
                detail = (
                    f"{step['elapsed_s']:5.1f} s  step {step['step']:4}  training loss {step['loss']:.3f}"
                )
            self._progress.show(f"{name}:", detail)

        return show

    def finish(self, result: Result) -> None:
        """The method's own line, which stays."""
        if not self._speaks:
            return
        if result.outcome is None:
            line = f"failed: {result.error}"
        else:
            line = f"{result.steps} steps, {result.step_ms:.0f} ms each"
            if result.loss is not None:
                line += f", held-out loss {result.loss:.3f}"
        self._progress.say(f"{result.label}: {line}")


def format_table(link: Link, results: Sequence[Result], budget_s: float) -> str:
    """The table with its head and the notes that say how to read it."""
    plain = _plain_step_ms(results)
    header = ["method", "step", "speed-up", "wire/step", "steps", "loss", "replicas"]
    table = _report.table(header, [_row(result, plain) for result in results])
    notes = [
        "step: median time of a training step. speed-up: against plain DDP's.",
        f"wire/step: what one rank sends in a step, {_counted_by(link)}.",
        "Both are of the second half of the run: sign1 and topk begin with int4 steps.",
        f"loss: after {budget_s:g} s of training, in nats a character on text held out from it.",
        "replicas: whether all ranks hold the same bits at the end.",
        "PowerSGD: one bucket (it fails on Gloo with more); its first two steps, in the warm-up, are plain.",
    ]
    failures = [f"{result.label} failed: {result.error}" for result in results if result.error]
    advice = [line for result in results if (line := _bucket_advice(result))]
    return "\n".join(["", link.describe(), "", table, "", *notes, *advice, *failures])


def _bucket_advice(result: Result) -> str | None:
    """What the hook's report says about a better bucket size, if it does."""
    size = ((result.outcome or {}).get("hook") or {}).get("recommended_bucket_cap_mb")
    return f"{result.label} would be faster with DDP(bucket_cap_mb={size}): --bucket {size}" if size else None


def _counted_by(link: Link) -> str:
    if link.kind == "namespaces":
        return "by its NIC's counter, headers included"
    return "TCP payload by the kernel's count, headers not included"


def _plain_step_ms(results: Sequence[Result]) -> float | None:
    return next((result.step_ms for result in results if result.method == "torch/plain"), None)


def _row(result: Result, plain_ms: float | None) -> list[str]:
    if result.outcome is None or result.step_ms is None:
        return [result.label, "failed", *["-"] * 5]
    cells = [
        result.label,
        f"{result.step_ms:.0f} ms",
        f"{plain_ms / result.step_ms:.1f} x" if plain_ms else "-",
    ]
    if result.loss is None:
        return [*cells, *["-"] * 4]
    return [
        *cells,
        f"{result.outcome['wire_bytes_per_step'] / 1e6:.2f} MB",
        str(result.steps),
        f"{result.loss:.3f}",
        "equal" if result.replicas_equal else "DIFFER",
    ]


def as_dict(link: Link, world_size: int, results: Sequence[Result], budget_s: float) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {
        "machine": _report.machine(),
        "link": {"kind": link.kind, "rate_bits": link.rate_bits, "description": link.describe()},
        "world_size": world_size,
        "budget_s": budget_s,
        "methods": [
            {
                "method": result.method,
                "label": result.label,
                "error": result.error or None,
                "step_ms": result.step_ms,
                **(result.outcome or {}),
            }
            for result in results
        ],
    }
