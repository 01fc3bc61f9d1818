"""PowerSGD in the hook: nothing is lost, all ranks stay equal, and low rank is learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.distributed as dist

from ddp.factors import CODEC, EXACT, Arrays, assert_equal_factors, factors_of, sides_of
from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_replicas,
    assert_same_bases,
    attached,
    codings_of,
    flat,
    noise,
    train,
)
from thinwire import _core
from thinwire.ddp import powersgd


def _run(rank: int, codec: str, transport: str, one_is_scalar: bool, steps: int = 8) -> tuple[bytes, Arrays]:
    """Train; return the parameters and the factors."""
    before = _core.active_target()
    if one_is_scalar and rank == 1:
        _core.force_target("scalar")
    try:
        ddp, state = attached(codec, transport=transport, warmup=2, verify_every=3)
        train(ddp, rank, steps)
        assert_equal_factors(state)
        assert_replicas(ddp)
        found = flat(ddp).numpy().tobytes(), factors_of(state)
        state.close()
    finally:
        _core.force_target(before)
    return found


@pytest.mark.parametrize("codec", ["powersgd", "powersgd:rank=2,factors=bf16", EXACT])
def test_targets_and_transports_give_the_same_bits(ranks: Callable[[int], Ranks], codec: str) -> None:
    native = ranks(2)(_run, codec, "native", True)
    gloo = ranks(2)(_run, codec, "c10d", False)
    for parameters, factors in [*native, *gloo]:
        assert parameters == native[0][0]
        assert_same_bases(factors, native[0][1])


@pytest.mark.torture
def test_a_scalar_rank_keeps_up_for_600_steps(ranks: Callable[[int], Ranks]) -> None:
    (parameters, factors), *others = ranks(2)(_run, CODEC, "native", True, 600, timeout=300.0)
    for found, learnt in others:
        assert found == parameters
        assert_same_bases(learnt, factors)


def _sum_of_parts(
    rank: int, codec: str, transport: str, residual_dtype: str, sites: str, weights: tuple[float, ...]
) -> None:
    """What was delivered and what all ranks keep is what all gave, beside a bias that nothing is kept of."""
    model = Weights((96, 80), (300,), (64, 128))
    network = {"network": {"site": sites[rank]}} if sites else {}
    options = {"warmup": 1, "residual_dtype": residual_dtype, "transport": transport, **network}
    ddp, state = attached(codec, model, **options)
    weight = weights[rank] if weights else 1 / dist.get_world_size()
    given, delivered = ([torch.zeros(p.shape).double() for p in model.weights] for _ in range(2))
    for step in range(7):
        if weights:
            state.set_weight(weight)
        gradients = [noise(rank + 10 * i, step, *p.shape) for i, p in enumerate(model.weights)]
        if step == 4 and rank == 1:
            gradients[0].zero_()  # a rank without a gradient keeps its residual
        ddp.zero_grad()
        ddp(gradients).backward()
        for i, gradient in enumerate(gradients):
            given[i] += gradient.double() * weight
            delivered[i] += model.weights[i].grad.double()
    residuals = state.state_dict()["residuals"]
    assert set(residuals) == {"weights.0", "weights.2"}
    tolerance = 2e-6 if residual_dtype == "float32" else 1e-2
    for i in (0, 2):
        kept = residuals[f"weights.{i}"].double()
        total = given[i] - kept
        dist.all_reduce(total)
        assert kept.norm() > 1 or weight == 0
        assert (delivered[i] - total).norm() < tolerance * total.norm()
    assert_equal_factors(state)
    state.close()


@pytest.mark.parametrize("codec", [CODEC, EXACT])
@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_nothing_is_lost(ranks: Callable[[int], Ranks], codec: str, transport: str) -> None:
    ranks(2)(_sum_of_parts, codec, transport, "float32", "", ())


def test_nothing_is_lost_with_residuals_in_bf16(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_sum_of_parts, CODEC, "native", "bfloat16", "", ())


def test_nothing_is_lost_between_sites(ranks: Callable[[int], Ranks]) -> None:
    """Sums are made at each site first, and sent on from there."""
    ranks(3)(_sum_of_parts, CODEC, "native", "float32", "aab", ())


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_nothing_is_lost_with_weights(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(3)(_sum_of_parts, CODEC, transport, "float32", "", (0.5, 0.5, 0.0))


def _low_rank(rank: int, codec: str) -> float:
    """Ranks' gradients differ; the mean has rank 3. Return how far the last one delivered is from it."""
    left, right = noise(7, 0, 3, 96), noise(8, 0, 3, 120)
    mean = left.T @ right
    model = Weights((96, 120))
    ddp, state = attached(codec, model, warmup=0)
    for _ in range(24):
        ddp.zero_grad()
        ddp([mean * (0.4 if rank == 0 else 1.6)]).backward()
    state.close()
    return float((model.weights[0].grad - mean).norm() / mean.norm())


def test_a_gradient_of_low_rank_is_learnt(ranks: Callable[[int], Ranks]) -> None:
    """Exactly, if factors travel exactly."""
    assert max(ranks(2)(_low_rank, EXACT)) < 1e-5
    assert max(ranks(2)(_low_rank, CODEC)) < 0.15


def _zero_columns(rank: int) -> None:
    """Rows, columns and vectors of nothing give no NaN."""
    model = Weights((96, 120), (80, 80))
    ddp, state = attached(CODEC, model, warmup=0)
    for step in range(6):
        gradient = noise(rank, step, 96, 120)
        gradient[:, 60:] = 0
        gradient[20:30] = 0
        single = torch.zeros(80, 80)
        single[3, 5] = 2.0
        ddp.zero_grad()
        ddp([gradient, single]).backward()
        first, second = (p.grad for p in model.weights)
        assert torch.isfinite(first).all()
        assert torch.isfinite(second).all()
    assert abs(float(second[3, 5]) - 2) < 0.1  # of rank one: known after a few steps
    assert all(np.isfinite(pair).all() for pair in factors_of(state).values())
    state.close()


def test_zero_columns_and_a_single_entry(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_zero_columns)


def _follow(rank: int, transport: str) -> None:
    """Through the rebuild of DDP's buckets after the first step and the end of the warm-up."""
    ddp, state = attached(CODEC, transport=transport, warmup=3)
    shapes = {"first.weight": (96, 64), "middle.weight": (96, 96), "last.weight": (64, 96)}
    before: Arrays = {}
    for step in range(8):
        train(ddp, rank, 1, first=step)
        after = factors_of(state)
        assert set(after) == set(shapes)
        for name, (rows, columns) in shapes.items() if before else ():
            was, now = (sides_of(pairs[name], rows, columns) for pairs in (before, after))
            sent = 0 if powersgd.sends_left(step) else 1
            assert (was[sent] != now[sent]).any()
            assert was[1 - sent].tobytes() == now[1 - sent].tobytes()
            assert np.abs(now[sent] @ now[sent].T - np.eye(4)).max() < 1e-4
        before = after
        wanted = {"int4", "bf16"} if step < 3 else {"int8:block=64", "bf16"}
        assert codings_of(state) == wanted
    values = 4 * sum(rows + columns for rows, columns in shapes.values())
    nexts = 4 * sum(max(shape) for shape in shapes.values())
    assert state.report().as_dict()["basis_bytes"] == 4 * (values + nexts)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_sides_take_turns_through_warm_up_and_rebuild(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_follow, transport)


def _unused(rank: int, codec: str) -> None:
    """In every second step only: both sides are learnt all the same."""
    ddp, state = attached(codec, Net(), {"find_unused_parameters": True}, warmup=0)
    seen = set()
    for step in range(40):
        before = factors_of(state).get("middle.weight")
        ddp.zero_grad()
        ddp(noise(rank, step, 4, 64), skip_middle=step % 2 == 0).square().mean().backward()
        after = factors_of(state)["middle.weight"]
        changed = (
            []
            if before is None
            else [
                side
                for side, was, now in zip(
                    "LR", sides_of(before, 96, 96), sides_of(after, 96, 96), strict=True
                )
                if was.tobytes() != now.tobytes()
            ]
        )
        assert len(changed) == (step % 2 if before is not None else 0)
        seen.update(changed)
    assert seen == {"L", "R"}
    assert_equal_factors(state)
    state.close()


def test_a_parameter_used_in_every_second_step_learns_both_sides(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_unused, CODEC)


def _in_16_bit(rank: int) -> None:
    """A bucket in bf16: factors are worked out in fp32 all the same."""
    model = Weights((96, 80), (300,), dtype=torch.bfloat16)
    ddp, state = attached(EXACT, model, warmup=0)
    left, right = noise(7, 0, 3, 96), noise(8, 0, 3, 80)
    mean = (left.T @ right).bfloat16()
    bias = noise(rank, 0, 300).bfloat16()
    for _ in range(20):
        ddp.zero_grad()
        ddp([mean, bias]).backward()
    found = model.weights[0].grad
    assert found.dtype == torch.bfloat16
    assert (found.float() - mean.float()).norm() < 0.04 * mean.float().norm()
    both = (noise(0, 0, 300).bfloat16().float() + noise(1, 0, 300).bfloat16().float()) / 2
    assert torch.allclose(model.weights[1].grad.float(), both, rtol=2**-7, atol=1e-3)
    assert_replicas(ddp)
    state.close()


def test_a_model_in_16_bit(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_in_16_bit)


def _without_feedback(rank: int) -> None:
    ddp, state = attached(CODEC, warmup=0, feedback=False)
    train(ddp, rank, 4)
    assert state.state_dict()["residuals"] == {}
    assert_equal_factors(state)
    assert_replicas(ddp)
    state.close()


def test_without_feedback(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_without_feedback)
