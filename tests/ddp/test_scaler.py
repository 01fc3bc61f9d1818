"""A GradScaler beside the hook: skipped steps, changes of the loss scale, memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_replicas,
    assert_same_tensors,
    attached,
    flat,
    make_ddp,
    noise,
    plain_step,
    train,
)
from thinwire.ddp import HookState, comm_hook


def _scaler_overflow(rank: int, residual_dtype: str) -> None:
    """A step that GradScaler skips leaves the residuals as they were; a new loss scale rescales them."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1000)
    ddp, state = attached("int4", scaler=scaler, residual_dtype=residual_dtype)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.01)

    def step(number: int, poison: float = 1.0) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = ddp(noise(rank, number, 4, 64)).float().square().mean()
        scaler.scale(loss * poison).backward()
        scaler.step(optimizer)
        scaler.update()

    step(0)
    step(1)
    before, parameters = state.state_dict(), flat(ddp)
    assert before["loss_scale"] == 64
    step(2, float("inf") if rank == 1 else 1.0)
    assert scaler.get_scale() == 32  # all ranks saw it
    assert torch.equal(flat(ddp), parameters)
    after = state.state_dict()
    assert_same_tensors(after["residuals"], before["residuals"])
    step(3)
    assert state.state_dict()["loss_scale"] == 32
    assert state.report().as_dict()["nonfinite_steps"] == 1
    assert_replicas(ddp)
    state.close()


@pytest.mark.parametrize("residual_dtype", ["float32", "bfloat16"])
def test_grad_scaler(ranks: Callable[[int], Ranks], residual_dtype: str) -> None:
    ranks(2)(_scaler_overflow, residual_dtype)


class _Scale:
    """What the hook uses of a GradScaler."""

    def __init__(self) -> None:
        self.scale = 1.0

    def is_enabled(self) -> bool:
        return True

    def get_scale(self) -> float:
        return self.scale


def _scale_changes(rank: int) -> None:
    """Nothing is lost when the loss scale changes: everything is counted in unscaled gradients."""
    scaler = _Scale()
    model = Weights((80, 80))
    ddp, state = attached("sign1", model, scaler=scaler, warmup=0)
    given = torch.zeros(80, 80, dtype=torch.float64)
    delivered = torch.zeros(80, 80, dtype=torch.float64)
    for step, scale in enumerate([1024.0, 1024.0, 256.0, 4096.0, 4096.0]):
        scaler.scale = scale
        gradient = noise(rank, step, 80, 80)
        ddp.zero_grad()
        ddp([gradient * scale]).backward()
        given += gradient.double() / 2
        delivered += model.weights[0].grad.double() / scale
    saved = state.state_dict()
    total = given - saved["residuals"]["weights.0"].double() / saved["loss_scale"]
    dist.all_reduce(total)
    assert (delivered - total).norm() < 1e-6 * total.norm()
    state.close()


def _scaler_comes_later(rank: int, codec: str) -> None:
    """A state that was saved without a scaler is taken up with one, and the other way round."""
    model = Weights((80, 80))
    given = torch.zeros(80, 80, dtype=torch.float64)
    delivered = torch.zeros(80, 80, dtype=torch.float64)
    saved = None
    for step, scale in enumerate([1.0, 512.0, 1.0]):
        scaler = _Scale() if scale != 1 else None
        if scaler:
            scaler.scale = scale
        ddp, state = attached(codec, model, scaler=scaler, warmup=0)
        if saved is not None:
            state.load_state_dict(saved)
        gradient = noise(rank, step, 80, 80)
        ddp.zero_grad()
        ddp([gradient * scale]).backward()
        given += gradient.double() / 2
        delivered += model.weights[0].grad.double() / scale
        saved = state.state_dict()
        state.close()
    total = given - saved["residuals"]["weights.0"].double()
    dist.all_reduce(total)
    assert (delivered - total).norm() < 1e-6 * total.norm()


def test_a_scaler_that_comes_and_goes(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_scaler_comes_later, "sign1")


def test_residuals_follow_the_loss_scale(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_scale_changes)


def _frozen(rank: int) -> None:
    """The same model in another DDP, where fewer parameters learn."""
    model = Net()
    ddp = make_ddp(model)
    state = HookState("int8", ddp, scaler=_Scale())
    ddp.register_comm_hook(state, comm_hook)
    train(ddp, rank, 2)
    kept = state.state_dict()["residuals"]["first.weight"]
    assert kept.any()
    model.first.requires_grad_(False)
    again = make_ddp(model)
    again.register_comm_hook(state, comm_hook)
    for step in range(3):
        plain_step(again, rank, step)
        assert torch.equal(state.state_dict()["residuals"]["first.weight"], kept)
    state.close()


def test_what_does_not_learn_keeps_its_residual(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_frozen)


def _scaler_memory(rank: int) -> tuple[int, int]:
    found = []
    for scaler in (None, _Scale()):
        _, state = attached("int8", scaler=scaler)
        found.append(state.report().as_dict()["residual_bytes"])
        state.close()
    _, state = attached("int8", feedback=False)
    assert state.report().as_dict()["residual_bytes"] == 0
    state.close()
    return found[0], found[1]


def test_a_scaler_takes_a_second_array(ranks: Callable[[int], Ranks]) -> None:
    for without, with_scaler in ranks(2)(_scaler_memory):
        assert with_scaler == 2 * without > 0
