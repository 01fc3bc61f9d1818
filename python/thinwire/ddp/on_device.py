"""Buckets on a CUDA device: when they may be read, where they are worked on, when they are done.

The engine gives its work to a stream of its own (`csrc/ring/device_frames.hpp`). It begins when the host has
seen that the bucket is ready, by an event behind all that the caller's stream had been given, and an
operation is over when all of its work is. So nothing ever waits on that stream, and the bucket's memory is in
use exactly while its future is not complete. What is worked out of a bucket before the engine begins is given
to another stream, which waits for the bucket; the engine is told of an event behind that work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from thinwire import _core


def future_of(buffer: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    """Return a future for this tensor. Who waits for one on a GPU does so on its own current stream."""
    return torch.futures.Future(devices=[buffer.device]) if buffer.is_cuda else torch.futures.Future()


def mark(buffer: torch.Tensor) -> torch.cuda.Event | None:
    """Return an event behind what the current stream is to do with the buffer; None on the CPU."""
    if not buffer.is_cuda:
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(buffer.device))
    return event


def stay_on(device: torch.device) -> None:
    """Make this thread stand on a CUDA device. Going back to another would make a context there."""
    torch.cuda.set_device(device)


@contextmanager
def standing_on(device: torch.device) -> Iterator[None]:
    """Make a CUDA device the current one in a `with` block. For the CPU, CUDA is not touched."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


@contextmanager
def on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Give what is done in a `with` block to this stream. Without one CUDA is not touched."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield


@contextmanager
def after(ready: torch.cuda.Event | None, device: torch.device) -> Iterator[None]:
    """Give what is done in a `with` block to a stream behind the event, and wait for it at the end."""
    if ready is None:
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_event(ready)
    with on_stream(stream):
        yield
    stream.synchronize()


class Queues:
    """The engine's streams, one a device, made at first use. Raises CudaError."""

    def __init__(self) -> None:
        self._native: dict[torch.device, _core.Device] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._aside: dict[torch.device, torch.cuda.Stream] = {}

    def native(self, device: torch.device) -> _core.Device:
        """Return the engine's stream of a device, as it takes it."""
        if device not in self._native:
            self._native[device] = _core.Device(device.index)
        return self._native[device]

    def stream(self, device: torch.device) -> torch.cuda.Stream:
        """Return the same, as torch takes it."""
        if device not in self._streams:
            address = self.native(device).stream
            self._streams[device] = torch.cuda.ExternalStream(address, device)  # type: ignore[no-untyped-call]
        return self._streams[device]

    def aside(self, device: torch.device) -> torch.cuda.Stream:
        """Return a stream beside the engine's, for what waits for a bucket: the engine's never waits."""
        if device not in self._aside:
            self._aside[device] = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        return self._aside[device]
