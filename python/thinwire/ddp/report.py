"""What the hook did: bytes, error, time by stage, and whether it was worth it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from thinwire._advice import best_bucket_cap, exposed_seconds
from thinwire._sizes import format_size

SAMPLE_EVERY = 8
"""The error of the codec is measured on one share every so many steps."""


class Stopwatch:
    """Adds up the time spent in `with` blocks, by one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started


class Span:
    """Adds up the time in which at least one of several transfers was under way, and their bytes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sent_bytes = 0
        self._until = 0.0
        self._lock = threading.Lock()

    def until_now(self, started: float) -> None:
        """Add a transfer that began at `started` (perf_counter) and ends now."""
        with self._lock:
            now = time.perf_counter()
            self.seconds += max(0.0, now - max(started, self._until))
            self._until = now


def plain_bytes(nbytes: int, world_size: int) -> int:
    """Return what one rank sends in a plain all-reduce of `nbytes` bytes."""
    return 2 * nbytes * (world_size - 1) // world_size


class Metrics:
    """Counters of one rank since the last change of plan. Each is written by one thread at a time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again: what came before was the first iteration, or a warm-up."""
        self.steps = self.nonfinite_steps = 0
        self.plain_bytes = 0
        self.factorise, self.encode = Stopwatch(), Stopwatch()
        self.reduce, self.decode = Stopwatch(), Stopwatch()
        self.phase_1, self.phase_2, self.wire = Span(), Span(), Span()
        self.step_seconds = self.backward_seconds = self.waiting_seconds = 0.0
        self.bucket_bytes: list[int] = []
        self._lost = self._total = 0.0

    def add_error(self, lost: float, total: float) -> None:
        """Add the squared norms of what one encoding lost and of what it encoded, if they are finite."""
        if math.isfinite(lost) and math.isfinite(total):
            self._lost += lost
            self._total += total

    @property
    def sent_bytes(self) -> int:
        """Bytes this rank has sent in both phases."""
        return self.phase_1.sent_bytes + self.phase_2.sent_bytes

    @property
    def relative_error(self) -> float | None:
        """What one encoding loses of what it is given, as a ratio of L2 norms; None without a sample."""
        return (self._lost / self._total) ** 0.5 if self._total > 0 else None

    def summary(self) -> dict[str, Any]:
        """Return everything in plain numbers, times and bytes per step; None where nothing is known yet."""
        steps = max(self.steps, 1)
        speed = self._bytes_per_second()
        estimate = self._estimate(speed) if speed and self.steps else Estimate()
        return {
            "steps": self.steps,
            "nonfinite_steps": self.nonfinite_steps,
            "bytes_plain": self.plain_bytes // steps,
            "bytes_sent": self.sent_bytes // steps,
            "ratio": self.plain_bytes / self.sent_bytes if self.sent_bytes else None,
            "relative_error": self.relative_error,
            "seconds": {
                "step": self.step_seconds / steps,
                "encode": (self.factorise.seconds + self.encode.seconds) / steps,
                "phase_1": self.phase_1.seconds / steps,
                "reduce": self.reduce.seconds / steps,
                "phase_2": self.phase_2.seconds / steps,
                "decode": self.decode.seconds / steps,
                "waiting": self.waiting_seconds / steps,
            },
            "bytes_per_second": speed,
            **asdict(estimate),
        }

    def _bytes_per_second(self) -> float | None:
        """Return the speed of the link, as far as it can be seen.

        While a rank waits for a slower one no bytes move. Phase 2 begins for all at nearly the same time,
        both phases together fill a thin link: the faster of the two views is the nearer one.
        """
        views = [(self.sent_bytes, self.wire.seconds), (self.phase_2.sent_bytes, self.phase_2.seconds)]
        return max((count / seconds for count, seconds in views if seconds > 0), default=None)

    def _estimate(self, speed: float) -> Estimate:
        """Compare with a plain all-reduce over the same link, and with other bucket sizes."""
        step, waiting = self.step_seconds / self.steps, self.waiting_seconds / self.steps
        total = float(sum(self.bucket_bytes))
        if total == 0 or step == 0:
            return Estimate()
        backward = self._backward_seconds(total, step - waiting)
        plain = exposed_seconds(self.bucket_bytes, backward, self.plain_bytes / self.steps / speed / total)
        per_byte = self.sent_bytes / self.steps / speed / total
        cap, best = best_bucket_cap(total, backward, per_byte)
        gain = exposed_seconds(self.bucket_bytes, backward, per_byte) - best
        return Estimate(plain, plain > waiting, cap if gain > WORTH_SAYING * step else None)

    def _backward_seconds(self, total: float, compute: float) -> float:
        """Return the length of the backward pass.

        Seen is only what follows the first bucket, which leaves the share of the other buckets; with one
        bucket, nothing.
        """
        later = 1 - self.bucket_bytes[0] / total
        seen = self.backward_seconds / self.steps
        return min(seen / later, compute) if later > 0 else BACKWARD_SHARE * compute


@dataclass(frozen=True)
class Estimate:
    """Whether compression pays: `plain_waiting` is how long backward would wait without, in seconds."""

    plain_waiting: float | None = None
    pays: bool | None = None
    recommended_bucket_cap_mb: int | None = None


@dataclass(frozen=True)
class Report:
    """What a rank's hook did since the last change of plan. `str()` is a table, `as_dict()` plain values."""

    values: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the values: times in seconds and bytes, both a step; None where nothing is known yet."""
        return dict(self.values)

    def __str__(self) -> str:
        v = self.values
        rows = [
            ("codec", f"{v['codec']} on {v['world_size']} ranks, {v['steps']} steps"),
            (
                "sent",
                " a step instead of ".join(format_size(v[key]) for key in ("bytes_sent", "bytes_plain"))
                + _times(v["ratio"]),
            ),
            (
                "error of one encoding",
                "not sampled yet" if v["relative_error"] is None else f"{v['relative_error']:.2%}",
            ),
            (
                "memory",
                ", ".join(f"{of} {format_size(v[key])}" for of, key in _MEMORY.items()),
            ),
            *[(f"way to rank {rank}", way) for rank, way in v["ways"].items()],
            ("steps not finite", str(v["nonfinite_steps"])),
            *[(_STAGES[stage], f"{seconds * 1e3:.2f} ms a step") for stage, seconds in v["seconds"].items()],
            ("verdict", _verdict(v)),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


WORTH_SAYING = 0.1
"""Another bucket size is recommended if it would save more than this part of a step."""
BACKWARD_SHARE = 0.6
"""The part of a step's computation that backward is taken to be where it cannot be seen."""
_MEMORY = {"residuals": "residual_bytes", "bases": "basis_bytes", "buffers": "buffer_bytes"}
_STAGES = {
    "step": "step",
    "encode": "encode",
    "phase_1": "wire, to owners",
    "reduce": "add up",
    "phase_2": "wire, from owners",
    "decode": "decode",
    "waiting": "backward waited",
}


def _verdict(values: dict[str, Any]) -> str:
    if values["pays"] is None:
        return "too little was measured to say whether compression pays"
    plain, waited = values["plain_waiting"] * 1e3, values["seconds"]["waiting"] * 1e3
    verdict = (
        f"without compression backward would wait about {plain:.1f} ms a step, it waits {waited:.1f} ms: "
    )
    verdict += "compression pays" if values["pays"] else "compression does not pay on this link"
    cap = values["recommended_bucket_cap_mb"]
    return verdict + (f"; DDP(bucket_cap_mb={cap}) would be faster still" if cap else "")


def _times(ratio: float | None) -> str:
    return f" ({ratio:.1f} times less)" if ratio else ""
