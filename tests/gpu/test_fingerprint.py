"""`fingerprint` of data on a CUDA device: the cuts and digests of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thinwire as tw
from gpu.device_calls import current_stream, needs_gpu, torch
from gpu.test_cuda_arrays import CudaArray
from support import Array
from thinwire import _core

pytestmark = needs_gpu

KEY = bytes(range(32))
ROUND = 128 << 20  # positions that are cut before their chunks are hashed
PROFILES = [
    "native",
    "native:average=256",
    "native:min=64,average=1000,max=1001",
    "native:min=700,average=700,max=700",
    "native:average=1048576",
    "fixed:average=1000",
    "aligned",
]


def contents(size: int) -> dict[str, Array]:
    """Random data, and kinds that are hard to cut."""
    random = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    return {
        "random": random,
        "two letters": random % 2 + 97,
        "zeros": np.zeros_like(random),
        "periodic": np.resize(random[:64], size),
        "sparse": np.where(random < 3, 7, 0).astype(np.uint8),
    }


def check(tensor: Any, profile: str, **options: Any) -> None:
    """The device and the CPU give the same, and the device leaves the data alone."""
    host = tensor.cpu()
    want_ends, want_digests = tw.fingerprint(host, profile, key=options.get("key"))
    ends, digests = tw.fingerprint(tensor, profile, **options)
    assert (ends.dtype, digests.dtype) == (np.int64, np.uint8)
    assert np.array_equal(ends, want_ends)
    assert np.array_equal(digests, want_digests)
    assert torch.equal(tensor.cpu(), host)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("content", contents(0))
def test_cuts_and_digests_are_those_of_the_cpu(profile: str, content: str) -> None:
    for size in (0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2049, 70_001, 3_000_001):
        check(torch.from_numpy(contents(size)[content]).cuda(), profile)


@pytest.mark.parametrize("skew", [1, 2, 3, 5])
def test_data_at_any_address(skew: int) -> None:
    memory = torch.from_numpy(contents(500_003)["random"]).cuda()
    check(memory[skew:], "native:average=4096", key=KEY)
    check(memory[skew:-skew], "native:average=256")


@pytest.mark.parametrize("size", [ROUND - 1, ROUND, ROUND + 1, 2 * ROUND + 12_345])
def test_data_of_several_rounds(size: int) -> None:
    kinds = contents(size)
    for content in ("random", "zeros"):
        check(torch.from_numpy(kinds[content]).cuda(), "native", key=KEY)


def test_a_chunk_of_several_rounds() -> None:
    check(torch.zeros(3 * ROUND + 5, dtype=torch.uint8, device="cuda"), f"native:average={4 * ROUND}")


def test_arrays_of_any_library_and_dtype() -> None:
    data = contents(400_000)["random"]
    want = tw.fingerprint(data, "native:average=1024")
    tensor = torch.from_numpy(data).cuda()
    arrays = [
        tensor.view(torch.float32),
        tensor.view(torch.bfloat16),
        CudaArray(tensor),
        CudaArray(tensor, stream=1),
    ]
    for array in arrays:
        for got, expected in zip(tw.fingerprint(array, "native:average=1024"), want, strict=True):
            assert np.array_equal(got, expected)


@pytest.mark.parametrize("explicit", [False, True])
def test_work_is_done_in_the_order_of_the_stream(explicit: bool) -> None:
    data, side = contents(1_000_000)["random"], torch.cuda.Stream()
    tensor, late = torch.zeros(data.size, dtype=torch.uint8, device="cuda"), torch.from_numpy(data).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        tensor.copy_(late)
        ends, digests = tw.fingerprint(tensor, **({"stream": side.cuda_stream} if explicit else {}))
    want_ends, want_digests = tw.fingerprint(data)
    assert np.array_equal(ends, want_ends)
    assert np.array_equal(digests, want_digests)


def test_blocks_of_tensors_that_lie_anywhere() -> None:
    sizes, block = [1, 70_001, 0, 4096, 3_000_001, 1023, 200_000_003], 1 << 16
    tensors = [torch.randint(0, 256, (size,), dtype=torch.uint8, device="cuda") for size in sizes]
    got = _core.cuda_block_digests([t.data_ptr() for t in tensors], sizes, block, KEY, current_stream())
    hosts = [tensor.cpu().numpy() for tensor in tensors if len(tensor)]
    want = [tw.fingerprint(host, f"fixed:average={block}", key=KEY)[1] for host in hosts]
    assert np.array_equal(got, np.concatenate(want))


def test_what_cannot_be_cut_there_is_refused() -> None:
    tensor = torch.zeros(1000, dtype=torch.uint8, device="cuda")
    with pytest.raises(tw.NotBuilt, match="fastcdc2020 is not built for CUDA devices"):
        tw.fingerprint(tensor, "fastcdc2020")
    with pytest.raises(tw.InvalidArgument, match="the data is not in the memory of a CUDA device"):
        tw.fingerprint(CudaArray(tensor, data=(0xDEAD0000, False)))
    check(tensor, "native")  # no error was left behind
