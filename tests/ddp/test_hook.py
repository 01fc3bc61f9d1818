"""The hook in training: the mean is right, and the replicas stay the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_like_plain_ddp,
    assert_replicas,
    attached,
    flat,
    make_ddp,
    noise,
    train,
)
from thinwire import _core
from thinwire.ddp import HookState, comm_hook
from thinwire.ddp import state as state_module
from thinwire.ddp.plan import Limits

CODECS = [
    "raw",
    "fp16",
    "bf16",
    "fp8",
    "int8",
    "int4",
    "int4:rotate=true",
    "int4:rounding=stochastic",
    "int2",
    "ternary",
    "sign1",
    "topk",
    "topk:density=0.01",
]
DISTANCE = {"raw": 0.0, "fp16": 1e-3, "bf16": 1e-2, "int8": 0.01}
SHAPES = [(100, 70), (300,), (64, 64), (50, 20)]


def _train_with_codec(rank: int, codec: str) -> float:
    if rank == 1:
        _core.force_target("scalar")
    ddp, state = attached(codec, warmup=2)
    plain = make_ddp()
    train(ddp, rank, 8)
    train(plain, rank, 8)
    assert_replicas(ddp)
    _core.force_target(None)
    state.close()
    return float((flat(ddp) - flat(plain)).norm() / flat(plain).norm())


@pytest.mark.parametrize("codec", CODECS)
def test_replicas_are_bit_identical_on_unlike_cpus(ranks: Callable[[int], Ranks], codec: str) -> None:
    first, second = ranks(2)(_train_with_codec, codec)
    assert first == second
    assert first <= DISTANCE.get(codec, 0.3)


@pytest.mark.parametrize("codec", ["int8", "sign1"])
def test_three_ranks(ranks: Callable[[int], Ranks], codec: str) -> None:
    found = ranks(3)(_train_with_codec, codec)
    assert len(set(found)) == 1
    assert found[0] <= DISTANCE.get(codec, 0.3)


def _sum_of_all(values: list[torch.Tensor]) -> list[torch.Tensor]:
    """Sum over the ranks, in fp64."""
    total = [value.double() for value in values]
    for value in total:
        dist.all_reduce(value)
    return total


def _balance(rank: int, codec: str, residual_dtype: str, steps: int) -> list[float]:
    """Return, by matrix, how far delivered plus withheld is from what was given, relative to the latter."""
    model = Weights(*SHAPES)
    ddp, state = attached(codec, model, {"bucket_cap_mb": 25}, warmup=1, residual_dtype=residual_dtype)
    given = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    delivered = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for step in range(steps):
        gradients = [noise(rank + 10 * i, step, *shape) for i, shape in enumerate(SHAPES)]
        ddp.zero_grad()
        ddp(gradients).backward()
        for i, parameter in enumerate(model.weights):
            given[i] += gradients[i].double() / dist.get_world_size()
            delivered[i] += parameter.grad.double()
    saved = state.state_dict()
    residuals, pending = saved["residuals"], saved["pending"]
    assert set(residuals) == {"weights.0", "weights.2"}
    state.close()
    given = _sum_of_all(given)
    withheld = _sum_of_all([residuals[name] for name in sorted(residuals)])
    kept = {i: total + pending.get(f"weights.{i}", 0) for i, total in zip((0, 2), withheld, strict=True)}
    return [
        float((delivered[i] + kept.get(i, 0) - given[i]).norm() / given[i].norm()) for i in range(len(SHAPES))
    ]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "codec",
    ["fp8", "int8", "int4:rounding=stochastic", "int4:rotate=true", "int2", "ternary", "sign1", "topk"],
)
def test_nothing_is_lost(ranks: Callable[[int], Ranks], codec: str, size: int) -> None:
    """Sum of delivered means + sum of residuals = sum of weighted gradients."""
    for balance in ranks(size)(_balance, codec, "float32", 6):
        assert max(balance[0], balance[2]) < 1e-6  # with a residual
        assert max(balance[1], balance[3]) < 4e-3  # sent in bf16, without


def test_a_bf16_residual_loses_only_its_own_rounding(ranks: Callable[[int], Ranks]) -> None:
    for balance in ranks(2)(_balance, "int4", "bfloat16", 6):
        assert max(balance) < 4e-3


def _pytorch_form(rank: int) -> None:
    ddp = make_ddp()
    state = HookState(codec="int8")
    ddp.register_comm_hook(state, comm_hook)
    train(ddp, rank, 4)
    assert_replicas(ddp)
    assert sorted(name.split(":")[1] for name in state.state_dict()["residuals"]) == [
        "64x96",
        "96x64",
        "96x96",
    ]
    state.close()


def test_pytorchs_own_form_without_a_model(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_pytorch_form)


def test_raw_is_plain_ddp(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(assert_like_plain_ddp)


def _many_pieces(rank: int, transport: str) -> int:
    """Train with pieces so small that they wait for each other; return how many there were."""
    small, limits = Limits(4096, 4096), (state_module.C10D_LIMITS, state_module.native_limits)
    state_module.C10D_LIMITS, state_module.native_limits = small, lambda world_size: small
    try:
        options = {"warmup": 2, "verify_every": 3, "transport": transport}
        ddp, state = attached("sign1", Net(512), {"bucket_cap_mb": 0.2}, **options)
        train(ddp, rank, 8)
        assert_replicas(ddp)
        pieces = sum(len(program.plan.pieces) for program in state._engine._planner.programs())
        state.close()
    finally:
        state_module.C10D_LIMITS, state_module.native_limits = limits
    return pieces


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_many_pieces_in_flight(ranks: Callable[[int], Ranks], size: int, transport: str) -> None:
    assert min(ranks(size)(_many_pieces, transport)) > 50


def _large(rank: int, transport: str) -> tuple[int, int]:
    """Reduce a bucket of many pieces; return the bytes of buffers and of residuals."""
    shape = (3_000, 1_000)
    model = Weights(shape, (2_000, 1_000))
    ddp, state = attached("int8", model, {"bucket_cap_mb": 25}, transport=transport)
    gradients = [noise(rank, 0, *shape), noise(rank, 1, 2_000, 1_000)]
    ddp(gradients).backward()
    for parameter, gradient in zip(model.weights, gradients, strict=True):
        mean = gradient / dist.get_world_size()
        dist.all_reduce(mean)
        assert (parameter.grad - mean).norm() < 0.02 * mean.norm()
    report = state.report().as_dict()
    state.close()
    return report["buffer_bytes"], report["residual_bytes"]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_memory_is_the_residual_and_8_mib(ranks: Callable[[int], Ranks], size: int, transport: str) -> None:
    for buffers, residuals in ranks(size)(_large, transport):
        assert residuals == 4 * 5_000_000
        assert 0 < buffers <= 8 << 20  # on native links as many blocks as were in use at once
