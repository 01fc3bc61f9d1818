"""Shared bases in the hook: equal on all ranks, learnt from the mean, or left alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_equal_bases,
    assert_replicas,
    assert_same_bases,
    attached,
    bases_of,
    codings_of,
    flat,
    noise,
    step_of_two,
    train,
)
from thinwire import NonFinite, _core
from thinwire.ddp import HookState
from thinwire.reference import basis


def _as_matrix(gradient: torch.Tensor) -> np.ndarray:
    """A gradient as it lies in memory, row by row of its first dimension."""
    channels_last = not gradient.is_contiguous()
    rows = gradient.permute(0, 2, 3, 1) if channels_last else gradient
    return rows.reshape(gradient.shape[0], -1).numpy()


def _assert_learnt(before: dict[str, np.ndarray], state: HookState, model: nn.Module) -> None:
    """The next step's vectors are what the reference learns from the mean gradients."""
    gradients = {name: p.grad for name, p in model.named_parameters()}
    rows = {name: _in_memory_order(v) for name, v in before.items()}
    wanted = {
        name: basis.turn(v, basis.learn(v, _as_matrix(gradients[name]), np.zeros_like(v)))
        for name, v in rows.items()
    }
    assert_same_bases({name: _in_memory_order(v) for name, v in bases_of(state).items()}, wanted)


def _in_memory_order(vectors: np.ndarray) -> np.ndarray:
    """Saved vectors as rows: those of a convolution, which here is channels_last, are (in, height, width)."""
    return np.moveaxis(vectors, 1, -1).reshape(len(vectors), -1) if vectors.ndim > 2 else vectors


def _run(
    rank: int, codec: str, transport: str, one_is_scalar: bool, steps: int = 6
) -> tuple[bytes, dict[str, np.ndarray]]:
    """Train; return the parameters and the bases."""
    before = _core.active_target()
    if one_is_scalar and rank == 1:
        _core.force_target("scalar")
    try:
        ddp, state = attached(codec, transport=transport, warmup=2)
        train(ddp, rank, steps)
        assert_equal_bases(state)
        assert_replicas(ddp)
        found = flat(ddp).numpy().tobytes(), bases_of(state)
        state.close()
    finally:
        _core.force_target(before)
    return found


@pytest.mark.parametrize("codec", ["sign1", "int2", "ternary", "topk"])
def test_targets_and_transports_give_the_same_bits(ranks: Callable[[int], Ranks], codec: str) -> None:
    native = ranks(2)(_run, codec, "native", True)
    gloo = ranks(2)(_run, codec, "c10d", False)
    for parameters, bases in [*native, *gloo]:
        assert parameters == native[0][0]
        assert_same_bases(bases, native[0][1])


@pytest.mark.parametrize("codec", ["sign1", "topk"])
def test_a_scalar_rank_keeps_up_for_600_steps(ranks: Callable[[int], Ranks], codec: str) -> None:
    (parameters, bases), *others = ranks(2)(_run, codec, "native", True, 600, timeout=300.0)
    for found, learnt in others:
        assert found == parameters
        assert_same_bases(learnt, bases)


def _follow(rank: int, transport: str) -> None:
    """Through the end of the warm-up and the rebuild of DDP's buckets after the first step."""
    ddp, state = attached("sign1", transport=transport, warmup=3)
    train(ddp, rank, 1)
    assert {name: v.shape for name, v in bases_of(state).items()} == {
        "first.weight": (8, 64),
        "middle.weight": (8, 96),
        "last.weight": (8, 96),
    }
    for step in range(1, 6):
        before = bases_of(state)
        train(ddp, rank, 1, first=step)
        _assert_learnt(before, state, ddp.module)
    assert state.report().as_dict()["basis_bytes"] == 3 * 4 * 8 * (64 + 96 + 96)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_every_step_is_learnt_from(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_follow, transport)


class _Conv(nn.Module):
    """A convolution whose rows lie in memory as (kernel, in)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 48, 3).to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def _convolution(rank: int) -> None:
    ddp, state = attached("sign1", _Conv(), warmup=0)

    def step() -> None:
        ddp.zero_grad()
        ddp(noise(rank, 0, 2, 16, 8, 8)).square().mean().backward()

    step()
    before = bases_of(state)
    assert before["conv.weight"].shape == (8, 16, 3, 3)
    step()
    assert not ddp.module.conv.weight.grad.is_contiguous()
    _assert_learnt(before, state, ddp.module)
    state.close()


def test_a_convolution_is_a_matrix_in_memory_order(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_convolution)


def _sum_of_parts(rank: int, residual_dtype: str, sites: str) -> None:
    """What was delivered and what all ranks keep is what all gave."""
    model = Weights((96, 80))
    network = {"network": {"site": sites[rank]}} if sites else {}
    ddp, state = attached("sign1", model, warmup=1, residual_dtype=residual_dtype, **network)
    given, delivered = torch.zeros(96, 80).double(), torch.zeros(96, 80).double()
    for step in range(5):
        gradient = noise(rank, step, 96, 80)
        ddp.zero_grad()
        ddp([gradient]).backward()
        given += gradient.double() / dist.get_world_size()
        delivered += model.weights[0].grad.double()
    kept = state.state_dict()["residuals"]["weights.0"].double()
    total = given - kept
    dist.all_reduce(total)
    assert kept.norm() > 1
    tolerance = 1e-6 if residual_dtype == "float32" else 1e-2
    assert (delivered - total).norm() < tolerance * total.norm()
    assert_equal_bases(state)
    state.close()


@pytest.mark.parametrize("residual_dtype", ["float32", "bfloat16"])
def test_nothing_is_lost(ranks: Callable[[int], Ranks], residual_dtype: str) -> None:
    ranks(2)(_sum_of_parts, residual_dtype, "")


def test_nothing_is_lost_between_sites(ranks: Callable[[int], Ranks]) -> None:
    """Sums are made at each site first, and sent on from there."""
    ranks(3)(_sum_of_parts, "float32", "aab")


def _without_feedback(rank: int) -> None:
    ddp, state = attached("sign1", warmup=0, feedback=False)
    train(ddp, rank, 4)
    assert state.state_dict()["residuals"] == {}
    assert_equal_bases(state)
    assert_replicas(ddp)
    state.close()


def test_without_feedback(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_without_feedback)


def _warm_up(rank: int) -> None:
    """The first steps are those of int4; the bases are learnt, not used."""
    (ddp, state), (plain, other) = attached("sign1", warmup=3), attached("int4")
    for step in range(3):
        train(ddp, rank, 1, first=step)
        train(plain, rank, 1, first=step)
        assert torch.equal(flat(ddp), flat(plain))
        assert codings_of(state) == codings_of(other) == {"int4", "bf16"}
    begun = basis.begin(64, 8, state._memory.bases._of[ddp.module.first.weight]._key)
    assert np.abs(bases_of(state)["first.weight"] - begun).max() > 0.01
    train(ddp, rank, 1, first=3)
    assert codings_of(state) == {
        "sign1:block=1024, basis of 8 x 64",
        "sign1:block=1024, basis of 8 x 96",
        "bf16",
    }
    state.close()
    other.close()


def test_the_warm_up_learns_and_sends_as_int4(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_warm_up)


def _not_finite(rank: int, nonfinite: str) -> None:
    """A bucket for each matrix: what the finite one taught is forgotten too, whichever comes first."""
    model = Weights((160, 96), (160, 96))
    ddp, state = attached("sign1", model, warmup=0, nonfinite=nonfinite)

    step = partial(step_of_two, ddp, rank)
    step(0)
    before = bases_of(state)
    for where in range(2):
        if nonfinite == "raise":
            with pytest.raises(NonFinite):
                step(1, float("inf"), where)
        else:
            step(1, float("nan"), where)
            assert model.weights[where].grad.isnan().any()
        assert not model.weights[1 - where].grad.isnan().any()
        assert_same_bases(bases_of(state), before)
    step(2)
    _assert_learnt(before, state, model)
    assert_equal_bases(state)
    state.close()


@pytest.mark.parametrize("nonfinite", ["propagate", "raise"])
def test_a_step_that_is_not_finite_teaches_nothing(ranks: Callable[[int], Ranks], nonfinite: str) -> None:
    ranks(2)(_not_finite, nonfinite)


def _skipped(rank: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1000)
    ddp, state = attached("sign1", scaler=scaler, warmup=0)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.01)

    def step(number: int, poison: float = 1.0) -> None:
        optimizer.zero_grad()
        scaler.scale(ddp(noise(rank, number, 4, 64)).square().mean() * poison).backward()
        scaler.step(optimizer)
        scaler.update()

    step(0)
    before = bases_of(state)
    step(1, float("inf") if rank == 1 else 1.0)
    assert scaler.get_scale() == 32
    assert_same_bases(bases_of(state), before)
    step(2)
    assert (bases_of(state)["first.weight"] != before["first.weight"]).any()
    assert_equal_bases(state)
    state.close()


def test_a_step_that_the_scaler_skips_teaches_nothing(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_skipped)


def _idle(rank: int) -> None:
    """A gradient that is zero on all ranks leaves the basis; on one rank, the others' is learnt."""
    model = Weights((96, 80), (80, 64))
    ddp, state = attached("sign1", model, {"find_unused_parameters": True}, warmup=0)
    for step in range(4):
        before = bases_of(state)
        gradients = [noise(rank, step, 96, 80), noise(rank, step, 80, 64)]
        gradients[0] *= step != 2
        gradients[1] *= rank == 0 or step != 2
        ddp.zero_grad()
        ddp(gradients).backward()
        after = bases_of(state)
        if before:
            _assert_learnt(before, state, model)
            assert (after["weights.0"].tobytes() == before["weights.0"].tobytes()) == (step == 2)
            assert (after["weights.1"] != before["weights.1"]).any()
    assert_equal_bases(state)
    state.close()


def test_a_zero_gradient_leaves_a_basis(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_idle)


def _unused(rank: int) -> None:
    ddp, state = attached("sign1", Net(), {"find_unused_parameters": True}, warmup=0)
    for step in range(4):
        before = bases_of(state)
        ddp.zero_grad()
        ddp(noise(rank, step, 4, 64), skip_middle=step == 2).square().mean().backward()
        stays = (
            bool(before) and before["middle.weight"].tobytes() == bases_of(state)["middle.weight"].tobytes()
        )
        assert stays == (step == 2)
    assert_equal_bases(state)
    state.close()


def test_an_unused_parameter_keeps_its_basis(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_unused)
