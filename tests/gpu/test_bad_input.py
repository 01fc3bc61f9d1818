"""What goes wrong on a GPU: one clear error, and nothing that stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from gpu.device_calls import needs_gpu, torch
from gpu.test_cuda_arrays import CudaArray
from support import same_bits
from vectors.formula import values

pytestmark = needs_gpu

N = 100_003


@pytest.fixture
def tensor() -> Any:
    return torch.from_numpy(values("cubes", N, seed=1)).cuda()


def works(tensor: Any) -> bool:
    """Whether the device still gives the CPU's bits, for thinwire and for torch."""
    codec = tw.codec("int8")
    fine = same_bits(codec.encode(tensor), codec.encode(tensor.cpu().numpy()))
    return fine and bool(torch.ones(3, device="cuda").sum().item() == 3)


def fill_device() -> list[Any]:
    """Tensors that take all free memory but for less than a MiB."""
    taken, size = [], torch.cuda.mem_get_info()[0]
    while size >= 1 << 20:
        try:
            taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    return taken


def test_no_free_device_memory() -> None:
    tensor = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")
    large = tensor.view(torch.float32)
    taken = fill_device()
    with pytest.raises(tw.CudaError, match=r"out of memory.*free device memory"):
        tw.codec("int8").encode(large)
    with pytest.raises(tw.CudaError, match=r"out of memory.*free device memory"):
        tw.fingerprint(tensor)
    taken.clear()
    torch.cuda.empty_cache()
    assert works(large[:N])


def test_a_stream_of_another_device(tensor: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    stream = torch.cuda.Stream("cuda:1").cuda_stream
    with pytest.raises(tw.CudaError, match="the stream must belong to the device of the array"):
        tw.codec("int8").encode(tensor, stream=stream)
    assert works(tensor)


def test_memory_of_the_host_and_of_nobody(tensor: Any) -> None:
    host = np.ones(N, np.float32)
    for address in (host.ctypes.data, 0xDEAD0000):
        array = CudaArray(tensor, data=(address, False))
        for call in (tw.codec("int8").encode, tw.fingerprint):
            with pytest.raises(tw.InvalidArgument, match="not in the memory of a CUDA device"):
                call(array)
    assert works(tensor)


def said_by(program: str, **variables: str) -> str:
    """What a process of its own prints, with `tw` imported and `try_to(call)`, which prints a CudaError."""
    head = (
        "import os, thinwire as tw\n"
        "def try_to(call):\n"
        "    try:\n        call()\n"
        "    except tw.CudaError as error:\n        print(error, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("call", ["tw.codec('int8').encode", "tw.fingerprint"])
def test_a_gpu_that_is_hidden(call: str) -> None:
    program = (
        "class X:\n"
        "    __cuda_array_interface__ = dict(shape=(9,), typestr='<f4', data=(4096, False), version=3)\n"
        f"try_to(lambda: {call}(X()))\n"
    )
    assert "look at nvidia-smi and CUDA_VISIBLE_DEVICES" in said_by(program, CUDA_VISIBLE_DEVICES="")


def test_a_forked_child_is_told_to_be_spawned() -> None:
    program = (
        "import torch\n"
        "x = torch.ones(1000, device='cuda')\n"
        "if os.fork() == 0:\n"
        "    try_to(lambda: tw.codec('int8').encode(x))\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert "start it with 'spawn'" in said_by(program)


def test_a_broken_context_says_to_start_anew() -> None:
    program = (
        "import torch\n"
        "x = torch.ones(1000, device='cuda')\n"
        "x[torch.tensor([1 << 40], device='cuda')]\n"  # an index that a kernel asserts to be too large
        "try_to(lambda: tw.codec('int8').encode(x))\n"
        "os._exit(0)\n"
    )
    assert "start the process anew" in said_by(program)
