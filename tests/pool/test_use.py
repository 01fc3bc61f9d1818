"""What thinwire itself takes from the process's pool: after the first steps nothing more from the system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinwire as tw

torch = pytest.importorskip("torch")

from ddp.conftest import _pools, ranks  # noqa: E402, F401
from ddp.ranks import Ranks  # noqa: E402
from ddp.training import Net, attached  # noqa: E402


def counts_of(step: Callable[[], Any], warmup: int, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The counters of the process's pool before and after `steps` steps that follow `warmup` others."""
    pool = tw.HostPool.shared()
    for _ in range(warmup):
        step()
    before = pool.stats().as_dict()
    for _ in range(steps):
        step()
    return before, pool.stats().as_dict()


_COUNTS = ("allocations", "peak_held", "live")


def _train(rank: int) -> tuple[int, int, int]:
    """Return how many allocations steady steps made, and by how many bytes what is held and in use grew.

    How many frames are on their way at once is a matter of timing: of several attempts the best one counts.
    """
    ddp, state = attached("int8", Net(512), transport="native")
    x = torch.randn(16, 64)

    def step() -> None:
        ddp.zero_grad()
        ddp(x).square().mean().backward()

    attempts = [counts_of(step, warmup=20, steps=20) for _ in range(4)]
    state.close()
    grown = [tuple(after[name] - before[name] for name in _COUNTS) for before, after in attempts]
    return min(grown, key=lambda counts: counts[1])


def test_training_steps(ranks: Callable[[int], Ranks]) -> None:  # noqa: F811
    for allocations, held, live in ranks(2)(_train):
        assert allocations > 20, "frames lie in the pool"
        assert held == 0, "a steady step takes nothing from the system"
        assert live == 0


def test_saves(tmp_path: Path) -> None:
    tensors = {f"layer{i}": torch.randn(1000, 1000) for i in range(4)}
    checkpoints = tw.store.Checkpointer(str(tmp_path), keep_last=1)
    number = iter(range(1, 100))

    def step() -> None:
        tensors["layer0"].add_(1)
        checkpoints.save(tensors, step=next(number), blocking=False).wait_durable()

    live = tw.HostPool.shared().stats().as_dict()["live"]
    before, after = counts_of(step, warmup=4, steps=4)
    assert before["live"] - live >= 16_000_000, "the staged copy lies in the pool"
    assert after["peak_held"] == before["peak_held"]
    checkpoints.close()


def test_batches(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((4096, 256), np.float32))
    with tw.data.RecordReader(tmp_path / "rows.npy") as reader:
        before, after = counts_of(lambda: list(reader.batches(batch_size=1024)), warmup=3, steps=5)
    assert after["allocations"] - before["allocations"] >= 20, "a slot for each batch"
    assert after["peak_held"] == before["peak_held"]
