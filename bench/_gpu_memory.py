"""`thinwire bench gpu`: copies between the pool and the device, and how they overlap with computation."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import thinwire as tw
from thinwire.bench import _gpu_device
from thinwire.bench._cases import MILLISECONDS, Case, LeftOut, Measured, need
from thinwire.bench._gpu_device import Effort, events_in_turn, torch_on_gpu

PINNED = "cudaHostAlloc (torch)"
CUPY = "CuPy, pinned"
PINNING_S = 60.0  # how long the pool may take to register its memory in the background
BATCHES = 16


def cases() -> list[Case]:
    """The rows."""
    return [
        Case("H2D from the pool", PINNED, 0.97, partial(_copy, "H2D", "torch")),
        Case("D2H to the pool", PINNED, 0.97, partial(_copy, "D2H", "torch")),
        Case("H2D from the pool", CUPY, None, partial(_copy, "H2D", "cupy")),
        Case("D2H to the pool", CUPY, None, partial(_copy, "D2H", "cupy")),
        Case("DevicePrefetcher: time of copies", "of it behind computation", None, _overlap),
    ]


def pinned_block(pool: tw.HostPool, size: int) -> tw.HostArray:
    """Memory of the pool that is registered with the driver. Raises LeftOut where it does not get there."""
    block = pool.empty(size)
    deadline = time.monotonic() + PINNING_S
    while block.tier != "registered":
        if time.monotonic() > deadline:
            raise LeftOut(
                f"the pool's memory stays {block.tier}: {', '.join(pool.stats().values['reasons'])}"
            )
        time.sleep(0.01)
    return block


def _copy(direction: str, baseline: str, effort: Effort) -> Measured:
    torch = torch_on_gpu()
    size = effort.mebibytes << 20
    pool = tw.HostPool()
    own = pinned_block(pool, size).torch()
    base = _pinned_by(baseline, torch, size)
    device = torch.empty(size, dtype=torch.uint8, device=_gpu_device.DEVICE)

    def copy(host: Any) -> None:
        target, source = (device, host) if direction == "H2D" else (host, device)
        target.copy_(source, non_blocking=True)

    return events_in_turn(torch, partial(copy, own), partial(copy, base), size, effort)


def _pinned_by(baseline: str, torch: Any, size: int) -> Any:
    if baseline == "torch":
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    need("cupy", "cupy-cuda13x")
    import cupy
    import numpy as np

    return torch.from_numpy(np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size))


def _overlap(effort: Effort) -> Measured:
    """Seconds of all copies to the device, and of these the ones in which it also computed."""
    torch_on_gpu()
    from thinwire.bench import _gpu_overlap  # needs torch

    batch_bytes = (effort.mebibytes << 20) // BATCHES
    pool = tw.HostPool()
    batches = [pinned_block(pool, batch_bytes) for _ in range(BATCHES)]
    samples = [_gpu_overlap.copied_and_hidden_seconds(batches) for _ in range(effort.rounds + 1)][1:]
    return Measured([all_ for all_, _ in samples], [hidden for _, hidden in samples], plain=MILLISECONDS)
