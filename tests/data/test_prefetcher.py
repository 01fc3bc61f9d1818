"""Batches that are copied ahead: their values, their order, and that no memory is used again too early.

The copies to a GPU are played by a thread that begins each one late, so that whoever frees or overwrites host
memory too early is seen by the values.
"""

from __future__ import annotations

import ctypes
import gc
import queue
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import thinwire as tw

torch = pytest.importorskip("torch")

from thinwire.data.prefetcher import DevicePrefetcher  # noqa: E402

TIMEOUT_S = 20


class LateCopies:
    """Copies in order, in a thread, each a while after it was asked for."""

    def __init__(self, delay_s: float = 0.002, pinned: bool = False) -> None:
        self.delay_s, self.pinned = delay_s, pinned
        self.delivered: list[int] = []  # of each batch: how many copies had been begun by then
        self.begun = 0
        self._tasks: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            time.sleep(self.delay_s)
            task()
            task = None  # nor what it copied to

    def is_pinned(self, host: torch.Tensor) -> bool:
        return self.pinned

    def begin(self, host: torch.Tensor) -> torch.Tensor:
        self.begun += 1
        device = torch.full_like(host, 0)
        # The address alone: like a GPU, this keeps no host memory alive.
        address, size = host.data_ptr(), host.numel() * host.element_size()
        self._tasks.put(lambda: copy(address, size, device))
        return device

    def mark(self) -> threading.Event:
        event = threading.Event()
        self._tasks.put(event.set)
        return event

    def deliver(self, event: threading.Event, tensors: list[torch.Tensor]) -> None:
        self.delivered.append(self.begun)

    def passed(self, event: threading.Event) -> bool:
        return event.is_set()

    def wait(self, event: threading.Event) -> None:
        assert event.wait(TIMEOUT_S)

    def close(self) -> None:
        self._tasks.put(None)
        self._thread.join(TIMEOUT_S)


def copy(address: int, size: int, device: torch.Tensor) -> None:
    ctypes.memmove(device.data_ptr(), address, size)


@pytest.fixture
def copies() -> Iterator[LateCopies]:
    made = LateCopies()
    yield made
    made.close()


class Pair(NamedTuple):
    inputs: Any
    targets: Any


@dataclass(frozen=True)
class Ragged:
    data: Any
    offsets: Any
    weight: float


def finished(prefetcher: DevicePrefetcher[Any], copies: LateCopies) -> list[Any]:
    """All batches. A consumer on a GPU waits there; here, the end of the iteration waits for all copies."""
    return list(prefetcher.through(copies))


def test_values_and_order_of_all_kinds_of_leaves(copies: LateCopies) -> None:
    pool = tw.HostPool("64MiB")

    def batches() -> Iterator[Any]:
        for i in range(20):
            block = pool.empty(1000, "float32")
            block.numpy()[:] = i
            yield {
                "tensor": torch.full((3, 4), i, dtype=torch.bfloat16),
                "rest": [np.full(5, i, np.int64), Pair(block, f"name {i}")],
                "ragged": Ragged(np.full(i, i, np.uint8), (torch.tensor(i),), 0.5),
            }

    got = finished(DevicePrefetcher(batches(), depth=3, pool=pool), copies)
    assert len(got) == 20
    for i, batch in enumerate(got):
        assert torch.equal(batch["tensor"], torch.full((3, 4), i, dtype=torch.bfloat16))
        assert torch.equal(batch["rest"][0], torch.full((5,), i))
        pair = batch["rest"][1]
        assert isinstance(pair, Pair)
        assert torch.equal(pair.inputs, torch.full((1000,), float(i)))
        assert pair.targets == f"name {i}"
        assert torch.equal(batch["ragged"].data, torch.full((i,), i, dtype=torch.uint8))
        assert batch["ragged"].offsets[0] == i
        assert batch["ragged"].weight == 0.5


def test_memory_is_not_used_again_while_a_copy_reads_it(copies: LateCopies) -> None:
    pool = tw.HostPool("16MiB")
    source = np.zeros(20_000, np.float32)

    def batches() -> Iterator[np.ndarray[Any, Any]]:
        for i in range(30):
            source[:] = i  # the same array again and again: what was staged must be a copy
            yield source

    prefetcher = DevicePrefetcher(batches(), depth=4, pool=pool)
    for i, batch in enumerate(finished(prefetcher, copies)):
        assert torch.equal(batch, torch.full((20_000,), float(i)))
    assert prefetcher.stats.staged_bytes == 30 * source.nbytes
    assert pool.stats().as_dict()["live"] == 0


def test_memory_that_is_pinned_is_not_staged() -> None:
    copies = LateCopies(pinned=True)
    prefetcher = DevicePrefetcher([torch.arange(10), torch.arange(5)], depth=1)
    first, second = finished(prefetcher, copies)
    copies.close()
    assert torch.equal(first, torch.arange(10))
    assert torch.equal(second, torch.arange(5))
    assert prefetcher.stats.staged_bytes == 0
    assert prefetcher.stats.batches == 2


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_so_many_batches_are_under_way(copies: LateCopies, depth: int) -> None:
    asked = []

    def batches() -> Iterator[torch.Tensor]:
        for i in range(10):
            asked.append(i)
            yield torch.tensor([i])

    iteration = DevicePrefetcher(batches(), depth=depth).through(copies)
    next(iteration)
    assert asked == list(range(depth + 1))
    next(iteration)
    assert asked == list(range(depth + 2))
    iteration.close()


def test_an_error_of_the_source_comes_where_its_batch_would_have(copies: LateCopies) -> None:
    def batches() -> Iterator[torch.Tensor]:
        yield torch.tensor([0])
        yield torch.tensor([1])
        raise tw.InvalidArgument("record 7 is not there")

    iteration = DevicePrefetcher(batches(), depth=4).through(copies)
    assert len([next(iteration), next(iteration)]) == 2
    with pytest.raises(tw.InvalidArgument, match="record 7"):
        next(iteration)


def test_a_consumer_that_stops_leaves_nothing_behind(copies: LateCopies) -> None:
    pool = tw.HostPool("8MiB")
    iteration = DevicePrefetcher((np.full(1000, i) for i in range(100)), depth=5, pool=pool).through(copies)
    next(iteration)
    iteration.close()
    assert pool.stats().as_dict()["live"] == 0


def test_a_batch_that_was_taken_is_not_kept(copies: LateCopies) -> None:
    iteration = DevicePrefetcher([torch.zeros(4) for _ in range(6)], depth=2).through(copies)
    seen = weakref.ref(next(iteration))
    copies.wait(copies.mark())
    gc.collect()
    assert seen() is None
    iteration.close()


def test_values_torch_does_not_know_pass(copies: LateCopies) -> None:
    names = np.array(["a", "b"])
    read_only = np.arange(3)
    read_only.flags.writeable = False
    (got,) = finished(DevicePrefetcher([(names, None, read_only)]), copies)
    assert got[0] is names
    assert got[1] is None
    assert torch.equal(got[2], torch.arange(3))


def test_on_the_cpu_batches_pass() -> None:
    batches = [torch.zeros(2), {"x": np.zeros(3)}]
    prefetcher = DevicePrefetcher(batches, "cpu")
    assert [id(batch) for batch in prefetcher] == [id(batch) for batch in batches]
    assert [id(batch) for batch in prefetcher] == [id(batch) for batch in batches], "an iteration each time"
    assert len(prefetcher) == 2


def test_bad_arguments() -> None:
    with pytest.raises(tw.InvalidArgument, match="depth is 0"):
        DevicePrefetcher([], depth=0)
    with pytest.raises(tw.InvalidArgument, match="device is 'meta'"):
        DevicePrefetcher([], "meta")
    with pytest.raises(TypeError):
        len(DevicePrefetcher(iter([]), "cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_cuda_is_an_error() -> None:
    with pytest.raises(tw.CudaError, match="torch sees no CUDA device"):
        DevicePrefetcher([], "cuda")
    assert DevicePrefetcher([]).device.type == "cpu"
