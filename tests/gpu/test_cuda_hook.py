"""Training on a GPU with the hook over native links: two ranks that share one have the bits of two on the
CPU. Gradients are given, and a step of half a gradient is one rounding, so that the parameters have the same
bits on both, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, error_of, noise
from gpu.device_calls import needs_gpu, torch
from thinwire import NotBuilt, PeerLost
from thinwire.errors import NonFinite

pytestmark = needs_gpu

SHAPES = ((300, 130), (77,), (64, 96), (5000,), (40, 11))
STEPS = 4
RanksOfSize = Callable[[int], Ranks]


def _train(rank: int, device: str, codec: str, dtype: str, options: dict[str, Any]) -> list[bytes]:
    """Train, and return the bits of all parameters and residuals."""
    kind = getattr(torch, dtype)
    ddp, state = attached(codec, Weights(*SHAPES, dtype=kind).to(device), **options)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.5)
    for step in range(STEPS):
        given = [noise(rank, 10 * step + i, *shape).to(kind) for i, shape in enumerate(SHAPES)]
        if rank == 0:
            given[2].zero_()  # a gradient that is all zero keeps its residual
        optimizer.zero_grad()
        ddp([gradient.to(device) for gradient in given]).backward()
        optimizer.step()
    assert_replicas(ddp)
    kept = state.state_dict()["residuals"]
    found = [*ddp.parameters(), *(kept[name] for name in sorted(kept))]
    state.close()
    return [tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() for tensor in found]


@pytest.mark.parametrize("codec", ["raw", "bf16", "int8", "int4", "sign1", "topk"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_ranks_on_one_gpu_train_like_two_on_the_cpu(ranks: RanksOfSize, codec: str, dtype: str) -> None:
    options = {"basis": 0, "warmup": 1, "small": 100, "verify_every": 2}
    on_cpu = ranks(2)(_train, "cpu", codec, dtype, options)
    on_gpu = ranks(2)(_train, "cuda", codec, dtype, options)
    assert on_gpu == on_cpu


def test_residuals_of_two_arrays_and_16_bit(ranks: RanksOfSize) -> None:
    options = {"residual_dtype": "bfloat16", "small": 100}
    assert ranks(2)(_train, "cuda", "int4", "float32", options) == ranks(2)(
        _train, "cpu", "int4", "float32", options
    )


def _mixed(rank: int) -> list[bytes]:
    return _train(rank, "cuda" if rank == 0 else "cpu", "int8", "float32", {})


def test_a_rank_on_a_gpu_trains_with_one_on_the_cpu(ranks: RanksOfSize) -> None:
    assert ranks(2)(_mixed) == ranks(2)(_train, "cpu", "int8", "float32", {})


def _overflow(rank: int) -> None:
    ddp, state = attached("int8", Weights((96, 80), dtype=torch.float16).cuda(), nonfinite="raise")
    with pytest.raises(NonFinite):
        ddp([torch.full((96, 80), 65504.0, dtype=torch.float16, device="cuda")]).backward()
    state.close()


def test_rounding_up_beyond_fp16_counts_as_not_finite(ranks: RanksOfSize) -> None:
    ranks(2)(_overflow)


def _beside_other_streams(rank: int) -> None:
    """Train on a stream of one's own, with memory that comes and goes meanwhile."""
    with torch.cuda.stream(torch.cuda.Stream()):
        ddp, state = attached("int8", Weights((512, 512), (300, 300)).cuda())
        for step in range(6):
            given = [torch.full((n, n), float(rank + step), device="cuda") for n in (512, 300)]
            ddp.zero_grad()
            ddp(given).backward()
            junk = [torch.full((n, n), 1e9, device="cuda") for n in (512, 300)]
            for parameter in ddp.parameters():
                found = parameter.grad
                assert torch.allclose(found, torch.full_like(found, step + 0.5), rtol=0.02)
            del junk
        state.close()


def test_a_stream_of_the_callers_own(ranks: RanksOfSize) -> None:
    ranks(2)(_beside_other_streams)


def _refused(rank: int) -> None:
    error = error_of(lambda: attached("int8", Weights((100, 100)).cuda(), transport="c10d"))
    assert isinstance(error, NotBuilt)
    assert "transport='native'" in str(error)


def test_c10d_says_what_to_use(ranks: RanksOfSize) -> None:
    ranks(2)(_refused)


def _abandoned(rank: int) -> None:
    """One rank leaves in the middle: the other hears of it in backward."""
    ddp, state = attached("int8", Weights((1000, 1000)).cuda())

    def step() -> None:
        ddp([torch.ones(1000, 1000, device="cuda")]).sum().backward()

    for _ in range(3):  # DDP talks to its own group in the first ones
        step()
    if rank == 0:
        state.close()
    else:
        assert isinstance(error_of(step), PeerLost)


def test_a_rank_that_leaves(fresh_ranks: RanksOfSize) -> None:
    fresh_ranks(2)(_abandoned)
