"""Memory of the pool beside a GPU that still reads it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import thinwire as tw
from gpu.device_calls import needs_gpu
from thinwire import _core
from thinwire.data.slots import slot

torch = pytest.importorskip("torch")

pytestmark = needs_gpu

WORK = 500_000_000  # cycles: a fraction of a second
VALUES = 1 << 21


def registered_batch() -> np.ndarray:
    """A batch of ones in memory that the driver knows, so that a copy of it waits in the stream."""
    torch.cuda.init()
    found = slot((VALUES,), np.dtype(np.float32))
    deadline = time.monotonic() + 60
    while _core.HostPool.shared().tier(found.address) != "registered":
        assert time.monotonic() < deadline, "the pool's memory is not registered"
        time.sleep(0.01)
    found.array[:] = 1
    return found.array


def overwrite() -> None:
    """Take memory of that size again and again, and write to it."""
    for _ in range(8):
        slot((VALUES,), np.dtype(np.float32)).array[:] = 2


def test_a_batch_is_not_read_over_while_it_is_copied() -> None:
    batch = registered_batch()
    torch.cuda._sleep(WORK)
    copy = torch.from_numpy(batch).to("cuda", non_blocking=True)
    del batch
    overwrite()
    assert bool((copy == 1).all())


def test_what_is_freed_while_a_graph_is_captured_comes_back() -> None:
    pool = tw.HostPool(limit="64MiB")
    x = torch.zeros(16, device="cuda")
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        x += 1
        pool.empty(VALUES, "float32").free()
        pool.empty(VALUES, "float32").free()  # looks after what waits
        x += 1
    graph.replay()
    torch.cuda.synchronize()
    assert bool((x == 2).all())
    pool.trim()
    assert pool.stats().values["live"] == 0


def test_a_map_for_reading_only_is_registered(tmp_path: Path) -> None:
    path = tmp_path / "values.npy"
    np.save(path, np.arange(VALUES, dtype=np.float32))
    values = np.load(path, mmap_mode="r")
    with tw.register_(values) as found:
        assert found.tier == "registered" or "not supported" in found.reason
