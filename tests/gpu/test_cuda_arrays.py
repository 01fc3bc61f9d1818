"""Arrays on a CUDA device at the NumPy level: streams, devices, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thinwire as tw
from gpu.device_calls import needs_gpu, to_device, to_host, torch
from support import BF16, DTYPES, FP32, same_bits, store
from vectors.formula import values

pytestmark = needs_gpu

N = 100_003


class CudaArray:
    """A tensor seen through its CUDA array interface alone."""

    def __init__(self, tensor: Any, **changed: Any) -> None:
        self._tensor = tensor  # keeps the memory
        self.__cuda_array_interface__ = {**tensor.__cuda_array_interface__, **changed}


@pytest.mark.parametrize("name", [info.name for info in tw.codecs()])
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
def test_frames_and_residuals_are_those_of_the_cpu(name, dtype):
    codec, x = tw.codec(name), store(values("cubes", N, seed=1), dtype)
    old = values("cubes", N, -4, seed=2)
    residual, tensor = old.copy(), to_device(old, FP32)
    host_x = x.view("V2") if dtype == BF16 else x.view(np.float16) if dtype else x
    want = codec.encode(host_x, residual=residual, scale=0.5, seed=3, step=4)
    got = codec.encode(to_device(x, dtype), residual=tensor, scale=0.5, seed=3, step=4)
    assert isinstance(got, np.ndarray)
    assert same_bits(got, want)
    assert same_bits(to_host(tensor), residual)
    out, expected = to_device(x, dtype), host_x.copy()
    assert codec.decode(got, out=out, accumulate=True) is out
    codec.decode(want, out=expected, accumulate=True)
    assert same_bits(to_host(out), expected.view(x.dtype))


def test_an_array_with_nothing_but_the_cuda_array_interface():
    x = values("cubes", N, seed=1)
    codec, tensor = tw.codec("int4"), to_device(x, FP32)
    want = codec.encode(x)
    assert same_bits(codec.encode(CudaArray(tensor)), want)
    assert same_bits(codec.encode(CudaArray(tensor, stream=1)), want)
    out = torch.zeros(N, device="cuda")
    codec.decode(want, out=CudaArray(out))
    assert same_bits(to_host(out), codec.decode(want))


def test_the_frame_may_go_to_pinned_memory():
    x, codec = values("cubes", N, seed=1), tw.codec("int8")
    out = torch.empty(codec.bound(N) + 7, dtype=torch.uint8, pin_memory=True)
    got = codec.encode(to_device(x, FP32), out=out)
    assert same_bits(got.numpy(), codec.encode(x))


@pytest.mark.parametrize("explicit", [False, True])
def test_work_is_done_in_the_order_of_the_stream(explicit):
    x, codec, side = values("cubes", N, seed=1), tw.codec("int8"), torch.cuda.Stream()
    tensor, late = torch.zeros(N, device="cuda"), to_device(x, FP32)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        tensor.copy_(late)
        got = codec.encode(tensor, **({"stream": side.cuda_stream} if explicit else {}))
    assert same_bits(got, codec.encode(x))


def test_a_residual_elsewhere_is_refused():
    x, old = to_device(values("cubes", 100), FP32), np.zeros(100, np.float32)
    with pytest.raises(tw.InvalidArgument, match="residual in host memory"):
        tw.codec("int8").encode(x, residual=old)
    with pytest.raises(tw.InvalidArgument, match="x lies in host memory"):
        tw.codec("int8").encode(old, residual=x)
    with pytest.raises(tw.InvalidArgument, match="must lie in host memory"):
        tw.codec("int8").encode(x, out=torch.empty(1000, dtype=torch.uint8, device="cuda"))


def test_addresses_that_are_no_device_memory_are_refused():
    tensor, host = to_device(values("cubes", 100), FP32), np.ones(100, np.float32)
    for address in (0xDEAD0000, host.ctypes.data):
        with pytest.raises(tw.InvalidArgument, match="not in the memory of a CUDA device"):
            tw.codec("int8").encode(CudaArray(tensor, data=(address, False)))
    with pytest.raises(tw.InvalidArgument, match="aligned"):
        tw.codec("int8").encode(CudaArray(tensor, shape=(99,), data=(tensor.data_ptr() + 1, False)))
    assert torch.ones(3, device="cuda").sum().item() == 3  # no error was left behind


def test_a_damaged_frame_leaves_out_alone():
    codec, x = tw.codec("topk"), values("cubes", N, seed=1)
    damaged, out = codec.encode(x), to_device(x, FP32)
    damaged[200] ^= 1
    with pytest.raises(tw.CorruptFrame):
        codec.decode(damaged, out=out)
    assert same_bits(to_host(out), x)


def test_the_current_device_is_kept():
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    x, codec = values("cubes", N, seed=1), tw.codec("int8")
    tensor = to_device(x, FP32).to("cuda:1")
    with torch.cuda.device(0):
        assert same_bits(codec.encode(tensor), codec.encode(x))
        assert torch.cuda.current_device() == 0
        with pytest.raises(tw.InvalidArgument, match="on CUDA device 1, the residual on device 0"):
            codec.encode(tensor, residual=torch.zeros(N, device="cuda:0"))
