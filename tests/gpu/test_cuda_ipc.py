"""Ranks that share a GPU read each other's frames where they lie, with the bits of ranks on the CPU; what is
switched off stays off; and a rank that dies in the middle takes nobody with it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ddp.ranks import Ranks
from ddp.training import Weights, attached, error_of, noise
from gpu.device_calls import needs_gpu, torch
from thinwire import PeerLost

pytestmark = needs_gpu

STEPS = 4
SHAPES = ((300, 130), (77,), (5000,), (40, 11))
RanksOfSize = Callable[[int], Ranks]


def _train(rank: int, device: str, codec: str, shapes: Any, network: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the bits of all parameters, and what became of CUDA IPC on each link."""
    ddp, state = attached(codec, Weights(*shapes).to(device), network=network, small=100, warmup=0, basis=0)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.5)
    for step in range(STEPS):
        given = [noise(rank, 10 * step + i, *shape).to(device) for i, shape in enumerate(shapes)]
        optimizer.zero_grad()
        ddp(given).backward()
        optimizer.step()
    links = state._wire.communicator.stats()["links"]
    found = {
        "bits": [p.detach().cpu().numpy().tobytes() for p in ddp.parameters()],
        "states": [link["cuda_ipc"] for link in links],
        "bytes": sum(link["cuda_ipc_bytes"] for link in links),
        "ways": list(state.report().as_dict()["ways"].values()),
    }
    state.close()
    return found


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("codec", ["raw", "bf16", "fp8", "int8", "int4", "int2", "sign1"])
def test_frames_lie_in_each_others_memory(ranks: RanksOfSize, codec: str, size: int) -> None:
    on_cpu = ranks(size)(_train, "cpu", codec, SHAPES, {})
    on_gpu = ranks(size)(_train, "cuda", codec, SHAPES, {})
    for mine, other in zip(on_gpu, on_cpu, strict=True):
        assert mine["bits"] == other["bits"]
        assert mine["states"] == ["open"] * (size - 1)
        assert mine["ways"] == ["shm, cuda ipc open"] * (size - 1)
        assert mine["bytes"] > 0


@pytest.mark.parametrize("codec", ["topk", "ternary"])
def test_payloads_that_need_a_look_travel_over_the_host(ranks: RanksOfSize, codec: str) -> None:
    on_cpu = ranks(2)(_train, "cpu", codec, SHAPES, {})
    on_gpu = ranks(2)(_train, "cuda", codec, SHAPES, {})
    assert [mine["bits"] for mine in on_gpu] == [other["bits"] for other in on_cpu]


def test_a_bucket_greater_than_the_window(ranks: RanksOfSize) -> None:
    shapes = ((5000, 5000),)
    on_cpu = ranks(2)(_train, "cpu", "raw", shapes, {})
    on_gpu = ranks(2)(_train, "cuda", "raw", shapes, {})
    assert [mine["bits"] for mine in on_gpu] == [other["bits"] for other in on_cpu]


def test_it_can_be_switched_off(ranks: RanksOfSize) -> None:
    for mine in ranks(2)(_train, "cuda", "int8", SHAPES, {"cuda_ipc": False}):
        assert (mine["states"], mine["bytes"], mine["ways"]) == ([""], 0, ["shm"])


def _killed(rank: int) -> None:
    """Train until rank 1 is killed, at any time of a step."""
    ddp, _ = attached("int8", Weights((2000, 2000)).cuda())
    gradients = [torch.ones(2000, 2000, device="cuda")]

    def step() -> None:
        ddp(gradients).sum().backward()

    for _ in range(3):
        step()
    if rank == 1:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()

    def steps() -> None:
        while True:
            step()

    assert isinstance(error_of(steps), PeerLost)
    torch.cuda.synchronize()


def test_a_rank_that_is_killed_in_the_middle(fresh_ranks: RanksOfSize) -> None:
    survivor, killed = fresh_ranks(2).outcomes(_killed)
    assert survivor == ("result", None)
    assert killed[0] == "died"
