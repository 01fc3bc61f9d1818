"""`thinwire bench gpu`: when copies to the device and its computation ran, by events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from thinwire.bench import _gpu_device
from thinwire.data.prefetcher import CudaCopies, DevicePrefetcher

MATRIX = 4096  # a product of two takes longer than the copy of a batch


class Span(NamedTuple):
    """Work on the device: events before and behind it."""

    begin: Any
    end: Any

    def since(self, zero: Any) -> tuple[float, float]:
        """When it began and ended, in seconds after an event."""
        return zero.elapsed_time(self.begin) / 1e3, zero.elapsed_time(self.end) / 1e3


@contextmanager
def span(stream: Any) -> Iterator[Span]:
    """Events around what is given to a stream meanwhile."""
    events = Span(*(torch.cuda.Event(enable_timing=True) for _ in range(2)))
    events.begin.record(stream)
    yield events
    events.end.record(stream)


class TimedCopies(CudaCopies):
    """Copies, each between two events."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda", torch.cuda.current_device()))
        self.spans: list[Span] = []

    def begin(self, host: Any) -> Any:
        with span(self._stream) as timed:
            tensor = super().begin(host)
        self.spans.append(timed)
        return tensor


def common_seconds(some: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> float:
    """For how long one of `some` and one of `others` ran at once; neither list overlaps in itself."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in some for b in others)


def copied_and_hidden_seconds(batches: Sequence[Any]) -> tuple[float, float]:
    """Seconds of all copies of batches to the device, and of these the ones in which it also computed."""
    copies, computations = TimedCopies(), []
    weights = torch.randn(MATRIX, MATRIX, device=_gpu_device.DEVICE)
    zero = torch.cuda.Event(enable_timing=True)
    zero.record()
    for _ in DevicePrefetcher(batches, "cuda", depth=2).through(copies):
        with span(torch.cuda.current_stream()) as timed:
            weights @ weights
        computations.append(timed)
    torch.cuda.synchronize()
    copied = [each.since(zero) for each in copies.spans]
    computed = [each.since(zero) for each in computations]
    return sum(end - begin for begin, end in copied), common_seconds(copied, computed)
