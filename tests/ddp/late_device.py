"""A CUDA device played by the CPU: what a stream is given is done late, and in the order that does most harm.

The streams of `thinwire.ddp.stage` become queues that run only when somebody waits for the device, the first
of them before the others, as far as the events they wait for allow. A wait that is missing gives wrong
values, or frames that fail the checks of the CPU's codecs, which play the kernels. Collectives go over Gloo,
in the order in which they were started.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any

import pytest
import torch

from thinwire import _core
from thinwire.ddp import base_engine, state, stream_engine
from thinwire.ddp.group_wire import GroupWire
from thinwire.ddp.jobs import Job
from thinwire.ddp.outcome import Outcome
from thinwire.ddp.pipeline import Place
from thinwire.ddp.stream_engine import StreamEngine

UPSTREAM = ("encode", "wire", "add", "decode")
"""Values are encoded, and sent, before those before them were taken from where they go."""
DOWNSTREAM = ("decode", "add", "wire", "encode")
"""Values are taken before they are there."""


class Event:
    """Has happened, or not yet."""

    def __init__(self, device: LateDevice) -> None:
        self._device = device
        self.over = False

    def happen(self) -> None:
        self.over = True

    def synchronize(self) -> None:
        """Wait on the host."""
        self._device.run_until(lambda: self.over)


class Stream:
    """Work in order. An item is a function, or an event to wait for."""

    def __init__(self, device: LateDevice) -> None:
        self._device = device
        self._work: deque[Callable[[], None] | Event] = deque()

    def give(self, item: Callable[[], None] | Event) -> None:
        self._work.append(item)

    def mark(self) -> Event:
        event = Event(self._device)
        self.give(event.happen)
        return event

    def advance(self) -> bool:
        """Do one item. Returns whether there was one that could be done."""
        if not self._work:
            return False
        item = self._work[0]
        if isinstance(item, Event):
            if not item.over:
                return False
        else:
            item()
        self._work.popleft()
        return True


class LateDevice:
    """The streams of one device. `caller` is that of the model; it comes last, as it had to be waited for."""

    def __init__(self, first: Sequence[str]) -> None:
        self.streams = {name: Stream(self) for name in (*first, "caller")}
        self.current = self.streams["caller"]
        self._names = cycle(("encode", "add", "decode"))

    def make_stage(self, device: torch.device) -> Any:
        """Return a state's next stage. Those of several states share the streams."""
        return LateStage(self, self.streams[next(self._names)])

    def run_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            assert any(stream.advance() for stream in self.streams.values()), "the device hangs"


class Arrival:
    """A collective that was started, and the event at its end."""

    def __init__(self, event: Event) -> None:
        self.event = event


class LateStage:
    """`thinwire.ddp.stage.Stage` of a late device."""

    def __init__(self, device: LateDevice, stream: Stream) -> None:
        self._device, self.stream = device, stream
        self.work = torch.empty(0, dtype=torch.uint8)

    def launch(self, kernel: Callable[..., None], *arguments: Any, **more: Any) -> None:
        self.stream.give(partial(kernel, *arguments, work=self.work.data_ptr(), stream=0, **more))

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.stream.give(partial(function, *arguments))

    def start(self, collective: Callable[..., Any], *arguments: Any) -> Arrival:
        wire = self._device.streams["wire"]
        wire.give(self.stream.mark())
        wire.give(lambda: collective(*arguments).wait())
        return Arrival(wire.mark())

    def follow(self, work: Arrival) -> None:
        self.stream.give(work.event)

    def follow_caller(self) -> None:
        self.stream.give(self._device.streams["caller"].mark())

    def mark(self) -> Event:
        return self.stream.mark()

    def wait(self, event: Event) -> None:
        self.stream.give(event)

    def synchronize(self) -> None:
        self.mark().synchronize()


class LateOutcome(Outcome):
    """Its memory is garbage until the caller's stream comes to the zeros that it was given."""

    late: LateDevice

    def __init__(self, device: torch.device, ranks: int) -> None:
        super().__init__(device, ranks)
        for numbers in (self._numbers, self._told):
            numbers.fill_(float("nan"))
            self.late.streams["caller"].give(numbers.zero_)


class LateFuture:
    """Completes a future when the stream that is current at `set_result` comes to it."""

    def __init__(self, device: LateDevice, future: Any) -> None:
        self._device, self._future = device, future
        self.over = False

    def set_result(self, value: torch.Tensor) -> None:
        self._device.current.give(partial(self._complete, value))

    def _complete(self, value: torch.Tensor) -> None:
        self._future.set_result(value)
        self.over = True


class LateEngine(StreamEngine):
    """Completes the futures of a step when its last bucket was submitted; DDP waits for them then."""

    device_types = ("cpu",)
    device: LateDevice
    futures: list[LateFuture]

    def submit(self, job: Job) -> None:
        future: Any = LateFuture(self.device, job.future)
        job.future = future
        self.futures.append(future)
        super().submit(job)
        if job.is_last:
            self.device.run_until(lambda: all(future.over for future in self.futures))
            self.futures.clear()


@contextmanager
def late_device(first: Sequence[str]) -> Iterator[LateDevice]:
    """Have `transport="c10d"` reduce gradients on a late device, for HookStates made in the block."""
    device = LateDevice(first)

    @contextmanager
    def on_stream(stream: Stream | None) -> Iterator[None]:
        before, device.current = device.current, stream or device.streams["caller"]
        yield
        device.current = before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LateEngine, "device", device, raising=False)
        patch.setattr(LateEngine, "futures", [], raising=False)
        patch.setattr(LateOutcome, "late", device, raising=False)
        patch.setattr(stream_engine, "Outcome", LateOutcome)
        patch.setattr(state, "StreamEngine", LateEngine)
        patch.setattr(state, "Place", lambda: Place(device.make_stage))
        patch.setattr(base_engine, "on_stream", on_stream)
        patch.setattr(GroupWire, "_place", lambda self: torch.device("cpu"))
        for name, kernel in KERNELS.items():
            patch.setattr(_core, name, kernel)
        yield device


# The kernels.

_MAGIC: list[bytes] = []
"""The first word of every frame, in whose place a device counts what is not finite."""


def _held(used: Sequence[int] | None) -> list[bool] | None:
    return used and [address != 0 and ctypes.c_uint32.from_address(address).value == 0 for address in used]


def _encode(
    layout: _core.Layout,
    x: int,
    dtype: int,
    scale: float,
    residual_in: list[int] | None,
    residual_out: list[int] | None,
    residual_dtype: int,
    held: None,
    key: int,
    step: int,
    frame: int,
    work: int,
    stream: int,
    used: list[int] | None = None,
    residual_in_x: bool = False,
) -> None:
    assert held is None
    found = _held(used)
    if residual_in and residual_in_x:
        residual_in = [r if h else 0 for r, h in zip(residual_in, found or [], strict=True)]
    values = (x, dtype, scale, residual_in, residual_out, residual_dtype, found)
    header = _core.Header(step=step)
    nonfinite = _core.encode_frame(layout, header, *values, key, frame, layout.frame_bytes)
    _MAGIC[:] = [ctypes.string_at(frame, 8)]
    ctypes.c_uint64.from_address(frame).value = nonfinite


def _decode(
    layout: _core.Layout,
    frames: Sequence[int],
    out: int,
    dtype: int,
    accumulate: bool,
    work: int,
    stream: int,
) -> None:
    for number, frame in enumerate(frames):
        whole = _MAGIC[0] + ctypes.string_at(frame + 8, layout.frame_bytes - 8)
        copy = ctypes.create_string_buffer(whole, len(whole))
        added = accumulate or number > 0
        _core.decode_frame(layout, ctypes.addressof(copy), len(whole), out, dtype, added)


def _fold(
    layout: _core.Layout,
    x: int,
    dtype: int,
    scale: float,
    residual_in: list[int] | None,
    residual_dtype: int,
    used: list[int] | None,
    out: int,
    work: int,
    stream: int,
) -> None:
    _core.fold(layout, x, dtype, scale, residual_in, residual_dtype, _held(used), out)


def _find_nonzero(
    stretches: Sequence[tuple[int, int]], dtype: int, found: int, work: int, stream: int
) -> None:
    for i, (values, count) in enumerate(stretches):
        if not _core.is_zero(values, count, dtype):
            ctypes.c_uint32.from_address(found + 4 * i).value = 1


KERNELS: dict[str, Callable[..., Any]] = {
    "cuda_launch_encode": _encode,
    "cuda_launch_decode": _decode,
    "cuda_launch_fold": _fold,
    "cuda_launch_find_nonzero": _find_nonzero,
    "cuda_work_bytes": lambda layout, frames=1: 64,
    "cuda_sum_work_bytes": lambda segments: 64,
}
