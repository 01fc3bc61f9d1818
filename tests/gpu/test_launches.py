"""Launches without a wait, as a CUDA graph captures them: the bits of the calls that wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import core_calls
from core_calls import single
from gpu import device_calls
from gpu.device_calls import current_stream, needs_gpu, torch
from support import FP32, HEADER_BYTES, same_bits
from thinwire import _core
from vectors.formula import values

pytestmark = needs_gpu

N = 70_001
CODECS = ("int8", "int4", "sign1", "topk", "bf16")


class Launches:
    """A codec's launches over memory that stays where it is."""

    def __init__(self, name: str, x: Any, frames: int = 1) -> None:
        self.layout = single(name, {}, N)
        self.x = torch.from_numpy(x).cuda()
        self.residual = torch.zeros(N, device="cuda")
        size = self.layout.frame_bytes + 15 & ~15
        self.frames = torch.zeros(frames, size, dtype=torch.uint8, device="cuda")
        work = _core.cuda_work_bytes(self.layout, frames)
        self._work = torch.empty(work, dtype=torch.uint8, device="cuda")

    def encode(self) -> None:
        residuals = [self.residual.data_ptr()]
        _core.cuda_launch_encode(
            self.layout,
            self.x.data_ptr(),
            FP32,
            1.0,
            residuals,
            residuals,
            FP32,
            None,
            0,
            0,
            self.frames[0].data_ptr(),
            self._work.data_ptr(),
            current_stream(),
        )

    def decode(self, out: Any, accumulate: bool) -> None:
        frames = [frame.data_ptr() for frame in self.frames]
        _core.cuda_launch_decode(
            self.layout, frames, out.data_ptr(), FP32, accumulate, self._work.data_ptr(), current_stream()
        )

    def payload(self) -> bytes:
        """That of the first frame."""
        return bytes(self.frames[0, HEADER_BYTES : self.layout.frame_bytes].cpu().numpy())


@pytest.mark.parametrize("name", CODECS)
def test_a_launch_encodes_what_the_call_encodes(name: str) -> None:
    x = values("cubes", N, seed=1)
    launches = Launches(name, x)
    launches.encode()
    want = device_calls.encode(launches.layout, x, residuals=[np.zeros_like(x)])
    assert launches.payload() == want.frame[HEADER_BYTES:]
    assert same_bits(launches.residual.cpu().numpy(), want.residuals[0])


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("accumulate", [False, True])
def test_frames_are_added_in_their_order(name: str, accumulate: bool) -> None:
    peers = [values("cubes", N, seed=seed) for seed in range(4)]
    launches = Launches(name, peers[0], frames=len(peers))
    want = out = values("cubes", N, seed=9)
    for i, x in enumerate(peers):
        frame = core_calls.encode(launches.layout, x).frame
        launches.frames[i, : len(frame)] = torch.from_numpy(np.frombuffer(frame, np.uint8).copy())
        want = core_calls.decode(launches.layout, frame, want, accumulate=accumulate or i > 0)[1]
    target = torch.from_numpy(out).cuda()
    launches.decode(target, accumulate)
    assert same_bits(target.cpu().numpy(), want)


@pytest.mark.parametrize("name", CODECS)
def test_a_graph_captures_launches(name: str) -> None:
    x = values("cubes", N, seed=1)
    plain, captured = Launches(name, x), Launches(name, x)
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
    assert captured.payload() == plain.payload()
    assert torch.equal(captured.residual, plain.residual)
