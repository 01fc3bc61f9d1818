"""What the rows of `thinwire bench gpu` share: the device, and times by its own clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinwire import _core
from thinwire.bench._cases import Action, LeftOut, Measured, need

NO_GPU = "no GPU"
DEVICE = "cuda"  # tests put the CPU in its place


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    mebibytes: int  # of fp32 values
    launches: int  # between two events
    steps: int  # of training, in a round


FULL = Effort(rounds=15, mebibytes=256, launches=10, steps=10)
QUICK = Effort(rounds=5, mebibytes=64, launches=10, steps=3)


def torch_on_gpu() -> Any:
    """torch, where it sees a GPU. Raises LeftOut."""
    need("torch")
    import torch

    if not torch.cuda.is_available():
        raise LeftOut(NO_GPU)
    return torch


def torch_and_kernels() -> Any:
    """torch, where it sees a GPU and this build has kernels for it. Raises LeftOut."""
    torch = torch_on_gpu()
    info = _core.build_info()
    if not info["cuda"]:
        raise LeftOut(f"no CUDA kernels: {info['cuda_reason']}; make gpu builds them")
    return torch


def describe() -> str | None:
    """One line about the device; None where there is none."""
    try:
        torch = torch_on_gpu()
    except LeftOut:
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return (
        f"{found.name}, sm_{found.major}{found.minor}, {found.multi_processor_count} SMs, "
        f"{found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    )


def event_seconds(torch: Any, action: Action, launches: int) -> float:
    """Seconds of one call by the device's clock: two events around many, on the current stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(launches):
        action()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / launches


def events_in_turn(torch: Any, own: Action, base: Action, byte_count: int, effort: Effort) -> Measured:
    """Time both in turn by events, after a round that warms up."""
    pairs = [
        tuple(event_seconds(torch, action, effort.launches) for action in (own, base))
        for _ in range(effort.rounds + 1)
    ][1:]
    return Measured([own for own, _ in pairs], [base for _, base in pairs], byte_count)


class Copy:
    """The device's own copy, the yardstick of every kernel."""

    def __init__(self, torch: Any, effort: Effort) -> None:
        count = effort.mebibytes << 18
        self._source = torch.empty(count, device=DEVICE).normal_(std=1e-3)
        self._target = torch.empty_like(self._source)
        self.byte_count = 2 * self._source.nbytes
        """Bytes that it moves: reads and writes."""

    def __call__(self) -> None:
        self._target.copy_(self._source)


def against_copy(torch: Any, action: Action, must_move: int, effort: Effort) -> Measured:
    """Time an action beside the copy. The baseline is the time in which the copy moves as many bytes as the
    action must, so that the ratio is the share of the copy's bandwidth."""
    copy = Copy(torch, effort)
    measured = events_in_turn(torch, action, copy, must_move, effort)
    scale = must_move / copy.byte_count
    return Measured(measured.own, [seconds * scale for seconds in measured.base], must_move)
