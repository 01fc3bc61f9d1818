"""Batches that are copied to a GPU ahead of the model."""

from __future__ import annotations

import pytest

from gpu.device_calls import needs_gpu

torch = pytest.importorskip("torch")

from thinwire.data.prefetcher import CudaCopies, DevicePrefetcher  # noqa: E402

pytestmark = needs_gpu


def test_values_arrive() -> None:
    batches = [torch.full((1 << 22,), float(i)) for i in range(8)]
    sums = [batch.sum() for batch in DevicePrefetcher(batches, "cuda", depth=2)]
    assert [int(total) for total in sums] == [i << 22 for i in range(8)]


def test_a_copy_runs_beside_computation() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    copies = CudaCopies(device)
    staged = torch.empty(1 << 24).pin_memory()
    weights = torch.randn(4096, 4096, device=device)
    for _ in range(200):
        weights = weights @ weights / 64
    computed = torch.cuda.Event()
    computed.record()
    copies.begin(staged)
    copies.wait(copies.mark())
    assert not computed.query(), "the copy ended while the computation went on"
