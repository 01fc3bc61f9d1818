"""Launches without a wait, as a CUDA graph captures them: the bits of the calls that wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import core_calls
from core_calls import single
from gpu import device_calls
from gpu.device_calls import current_stream, needs_gpu, torch
from support import FP32, HEADER_BYTES, Array, same_bits
from thinwire import _core
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


class Found:
    """What a search for values that are not zero found in those of launches: on the device, at `used`."""

    def __init__(self, launches: Launches) -> None:
        self._launches = launches
        self._found = torch.zeros(1, dtype=torch.int32, device="cuda")
        self._work = torch.empty(_core.cuda_sum_work_bytes(1), dtype=torch.uint8, device="cuda")
        self.used = [self._found.data_ptr()]
        stretches = [(launches.values.data_ptr(), N)]
        _core.cuda_launch_find_nonzero(
            stretches, FP32, self._found.data_ptr(), self._work.data_ptr(), current_stream()
        )

    def fold(self) -> Any:
        """Return values and residual, added up unless they are held."""
        launches, out = self._launches, torch.empty(N, device="cuda")
        _core.cuda_launch_fold(
            launches.layout,
            launches.values.data_ptr(),
            FP32,
            1.0,
            [launches.residual.data_ptr()],
            FP32,
            self.used,
            out.data_ptr(),
            self._work.data_ptr(),
            current_stream(),
        )
        return out


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


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("is_held", [False, True])
def test_the_device_finds_out_what_is_held(name: str, is_held: bool) -> None:
    x = np.zeros(N, np.float32) if is_held else values("cubes", N, seed=1)
    residual = values("cubes", N, seed=2)
    launches = launches_of(name, x)
    launches.residual.copy_(torch.from_numpy(residual))
    found = Found(launches)
    folded = found.fold()
    launches.encode(used=found.used)
    want = device_calls.encode(launches.layout, x, residuals=[residual], held=[is_held])
    assert payload(launches) == want.frame[HEADER_BYTES:]
    assert same_bits(launches.residual.cpu().numpy(), want.residuals[0])
    assert same_bits(folded.cpu().numpy(), x if is_held else x + residual)
