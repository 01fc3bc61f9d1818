"""Launches without a wait, as a CUDA graph captures them: the bits of the calls that wait."""

from __future__ import annotations

import numpy as np
import pytest

import core_calls
from core_calls import single
from gpu import device_calls
from gpu.device_calls import needs_gpu, torch
from support import HEADER_BYTES, Array, same_bits
from thinwire.bench._gpu_launches import Launches
from vectors.formula import values

pytestmark = needs_gpu

N = 70_001
CODECS = ("int8", "int4", "sign1", "topk", "bf16")


def launches_of(name: str, x: Array, frames: int = 1) -> Launches:
    return Launches(torch, single(name, {}, N), torch.from_numpy(x).cuda(), frames)


def payload(launches: Launches) -> bytes:
    """Return that of the first frame."""
    return bytes(launches.frames[0][HEADER_BYTES : launches.layout.frame_bytes].cpu().numpy())


@pytest.mark.parametrize("name", CODECS)
def test_a_launch_encodes_what_the_call_encodes(name: str) -> None:
    x = values("cubes", N, seed=1)
    launches = launches_of(name, x)
    launches.encode()
    want = device_calls.encode(launches.layout, x, residuals=[np.zeros_like(x)])
    assert payload(launches) == want.frame[HEADER_BYTES:]
    assert same_bits(launches.residual.cpu().numpy(), want.residuals[0])


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("accumulate", [False, True])
def test_frames_are_added_in_their_order(name: str, accumulate: bool) -> None:
    peers = [values("cubes", N, seed=seed) for seed in range(4)]
    launches = launches_of(name, peers[0], len(peers))
    want = out = values("cubes", N, seed=9)
    for i, x in enumerate(peers):
        frame = core_calls.encode(launches.layout, x).frame
        launches.frames[i][: len(frame)] = torch.from_numpy(np.frombuffer(frame, np.uint8).copy())
        want = core_calls.decode(launches.layout, frame, want, accumulate=accumulate or i > 0)[1]
    target = torch.from_numpy(out).cuda()
    launches.decode(target, accumulate)
    assert same_bits(target.cpu().numpy(), want)


@pytest.mark.parametrize("name", CODECS)
def test_a_graph_captures_launches(name: str) -> None:
    x = values("cubes", N, seed=1)
    plain, captured = launches_of(name, x), launches_of(name, x)
    plain.encode()
    plain.encode()
    captured.encode()  # loads the kernels, which a capture does not allow
    captured.residual.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.encode()
    graph.replay()
    graph.replay()
    torch.cuda.synchronize()
    assert payload(captured) == payload(plain)
    assert torch.equal(captured.residual, plain.residual)
