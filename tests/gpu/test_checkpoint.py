"""Checkpoints of CUDA tensors: they come back, and only blocks that changed cross to the host."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu.device_calls import needs_gpu, torch
from thinwire.store.checkpoint import devices, tensors, tree
from thinwire.store.checkpoint.layout import BLOCK_BYTES, lay_out
from thinwire.store.checkpoint.staging import Known, Snapshot, Staging

pytestmark = needs_gpu

BLOCK_VALUES = BLOCK_BYTES // 4


@pytest.fixture
def crossed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all copies to the host."""
    sizes: list[int] = []
    fetch = devices.Cuda.fetch

    def counting(self: devices.Cuda, data: Any, target: Any) -> None:
        sizes.append(len(target))
        fetch(self, data, target)

    monkeypatch.setattr(devices.Cuda, "fetch", counting)
    return sizes


def state_on_gpu() -> dict[str, Any]:
    return {
        "weights": torch.randn(5 * BLOCK_VALUES + 1000, device="cuda"),
        "half": torch.randn(300, 1001, device="cuda").to(torch.bfloat16),
        "strided": torch.randn(600, 700, device="cuda").t(),
        "small": torch.randn(50, device="cuda"),
        "host": torch.randn(100_000),
    }


def take(state: Mapping[str, Any], staging: Staging, known: Mapping[Any, Known], in_place: bool) -> Snapshot:
    _, leaves = tree.flatten(dict(state))
    snapshot = Snapshot(lay_out(leaves), staging, known, in_place)
    with ThreadPoolExecutor(2) as executor:
        snapshot.take(executor)
        snapshot.compare(executor)
    return snapshot


def check_runs(snapshot: Snapshot, state: Mapping[str, Any]) -> list[str]:
    """What is to be stored holds the tensors' bytes; the tensors that some of it is of."""
    for piece in snapshot.pieces[1:]:
        want = tensors.dense(state[piece.key[0]]).cpu().numpy()
        for run in piece.runs():
            begin = run.blocks.start * BLOCK_BYTES
            assert np.array_equal(run.memory, want[begin : begin + len(run.memory)]), piece.key
    return [piece.key[0] for piece in snapshot.pieces[1:] if piece.stale.any()]


@pytest.mark.parametrize("in_place", [True, False])
def test_only_blocks_that_changed_cross(crossed: list[int], in_place: bool) -> None:
    state, staging = state_on_gpu(), Staging()
    snapshot = take(state, staging, {}, in_place)
    assert check_runs(snapshot, state) == ["weights", "half", "strided", "host"]
    assert sum(crossed) == sum(state[name].nbytes for name in ("weights", "half", "strided", "small"))
    assert snapshot.whole

    crossed.clear()
    snapshot = take(state, staging, snapshot.known(), in_place)
    assert check_runs(snapshot, state) == []
    assert sum(crossed) == state["small"].nbytes

    crossed.clear()
    state["weights"][3 * BLOCK_VALUES] += 1
    state["strided"] += 1
    snapshot = take(state, staging, snapshot.known(), in_place)
    assert check_runs(snapshot, state) == ["weights", "strided"]
    assert sum(crossed) == BLOCK_BYTES + state["strided"].nbytes + state["small"].nbytes
    assert not snapshot.whole


def test_what_is_written_after_it_was_taken_does_not_get_in(crossed: list[int]) -> None:
    weights, staging = torch.zeros(8 * BLOCK_VALUES, device="cuda"), Staging()
    for value in range(3):
        weights.fill_(value)
        snapshot = take({"weights": weights}, staging, {}, in_place=False)
        weights.fill_(-1)
        assert (snapshot.pieces[1].memory.view(np.float32) == value).all()
    assert sum(crossed) == 3 * weights.nbytes


@pytest.mark.parametrize("blocking", [True, False])
def test_a_checkpoint_comes_back(tmp_path: Path, blocking: bool) -> None:
    pytest.importorskip("zstandard", reason="a store needs zstandard: pip install 'thinwire[store]'")
    from thinwire.store.checkpoint import Checkpointer

    state = state_on_gpu()
    with Checkpointer(tmp_path) as saver:
        for step in range(3):
            saver.save(state, step, blocking=blocking).wait_durable()
            found = saver.load()
            for name, tensor in state.items():
                assert torch.equal(found[name], tensor.cpu()), name
            state["weights"][step * BLOCK_VALUES] += 1
