"""Which GPU streams an array waits for before its memory is used again. Here streams are mere numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

import thinwire as tw
from thinwire import _core, _host_array, _memory, _streams
from thinwire._host_array import StreamedArray
from thinwire.data import slots


class TorchStream:
    def __init__(self, device: int, address: int) -> None:
        self.device_index, self.cuda_stream = device, address


class CupyStream:
    def __init__(self, device: int, address: int) -> None:
        self.device_id, self.ptr = device, address


def cupy_on(device: int, current: CupyStream) -> SimpleNamespace:
    """A stand-in for the module cupy whose current device and stream these are."""
    runtime = SimpleNamespace(getDevice=lambda: device)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, get_current_stream=lambda: current))


def test_streams_of_torch_and_cupy_are_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_on(3, CupyStream(-1, 0)))
    assert _streams.handle_of(TorchStream(1, 0x10)) == (1, 0x10)
    assert _streams.handle_of(CupyStream(2, 0x20)) == (2, 0x20)
    assert _streams.handle_of(CupyStream(-1, 0)) == (3, 0)  # CuPy's default stream is that of the device


@pytest.mark.parametrize("stream", [7, None, "stream", object()], ids=lambda stream: type(stream).__name__)
def test_other_streams_are_refused(stream):
    a = tw.HostPool(limit="1MiB").empty(4)
    with pytest.raises(tw.InvalidArgument, match=r"pass a torch.cuda.Stream or cupy.cuda.Stream"):
        a.record_stream(stream)


def test_current_streams_are_those_of_every_library_that_was_imported(monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        current_stream=lambda device: TorchStream(device, 0x100 + device),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "cupy", cupy_on(1, CupyStream(1, 0x30)))
    assert _streams.current_streams() == [(0, 0x100), (1, 0x101), (1, 0x30)]
    cuda.is_initialized = lambda: False  # asking for a stream would start CUDA
    monkeypatch.delitem(sys.modules, "cupy")
    assert _streams.current_streams() == []


class Noting(StreamedArray):
    """An array that notes which streams it is to wait for."""

    noted: list[tuple[int, int]]

    def wait_for_stream(self, device: int, stream: int) -> None:
        self.noted.append((device, stream))
        super().wait_for_stream(device, stream)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Noting]:
    """Makes an array on a machine whose current stream is number 5 of device 1."""
    monkeypatch.setattr("thinwire._host_array.current_streams", lambda: [(1, 5)])

    def make() -> Noting:
        a = Noting(_core.HostPool(limit=1 << 22), [100], 1, "B", 64)
        a.dtype, a.noted = "uint8", []
        return a

    return make


def test_an_array_waits_for_recorded_and_for_current_streams(make):
    a = make()
    noted, x = a.noted, np.asarray(a)
    a.record_stream(TorchStream(0, 0x40))
    del a
    assert noted == [(0, 0x40)]
    del x  # the last view
    assert noted == [(0, 0x40), (1, 5)]


def test_freeing_waits_for_current_streams_too(make):
    a = make()
    assert a.free()
    assert a.noted == [(1, 5)]


def test_a_library_that_fails_is_no_reason_to_fail(make, monkeypatch):
    def fail() -> list[tuple[int, int]]:
        raise RuntimeError("no driver")

    monkeypatch.setattr("thinwire._host_array.current_streams", fail)
    make()  # and drops it: an error would be reported, and fail the test


def test_no_memory_is_no_reason_to_wait(make):
    with pytest.raises(tw.PoolExhausted):
        Noting(_core.HostPool(limit=1 << 22), [1 << 30], 1, "B", 64)


class PoolBesideGpu(_core.HostPool):
    has_streams = True


@pytest.mark.parametrize(
    "take", [lambda: slots.slot((4, 8), np.dtype("f4")).array, lambda: np.asarray(_memory.allocate(128))]
)
def test_memory_of_readers_waits_for_current_streams(monkeypatch, take):
    """A batch may die while it is copied to the device: where memory is registered, a copy may come later."""
    pool, waits = PoolBesideGpu(limit=1 << 22), []
    core = SimpleNamespace(HostPool=SimpleNamespace(shared=lambda: pool), HostBlock=_core.HostBlock)
    monkeypatch.setattr(_host_array, "_core", core)
    monkeypatch.setattr(_host_array, "current_streams", lambda: waits.append("asked") or [])
    batch = take()
    view = batch[:1]
    del batch
    assert waits == []
    del view
    assert waits == ["asked"]


def test_memory_of_readers_is_as_large_as_asked_for():
    assert slots.slot((4, 8), np.dtype("f4")).array.nbytes == _memory.allocate(128).nbytes == 128
