"""What a codec of few entries brings is handed over in parts, and none of it is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, error_of, flat, noise, train
from thinwire import InvalidArgument
from thinwire.ddp import HookState, Options


def _pending(state: HookState) -> dict[str, torch.Tensor]:
    return {name: entry.clone() for name, entry in state.state_dict()["pending"].items()}


def _assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def _nothing_is_lost(rank: int, share: float) -> None:
    model = Weights((96, 80))
    ddp, state = attached("topk", model, warmup=1, share=share)
    given, handed_over = torch.zeros(96, 80).double(), torch.zeros(96, 80).double()
    for step in range(6):
        gradient = noise(rank, step, 96, 80)
        ddp.zero_grad()
        ddp([gradient]).backward()
        given += gradient.double() / dist.get_world_size()
        handed_over += model.weights[0].grad.double()
    saved = state.state_dict()
    kept = saved["residuals"]["weights.0"].double()
    for total in (given, kept):
        dist.all_reduce(total)
    pending = _pending(state)
    assert set(pending) == ({"weights.0"} if share < 1 else set())
    assert state.report().as_dict()["basis_bytes"] == 3 * 4 * 8 * 80 + (4 * 96 * 80 if share < 1 else 0)
    later = pending["weights.0"].double() if share < 1 else torch.zeros(1)
    assert torch.allclose(given, handed_over + kept + later, atol=1e-4)
    state.close()


@pytest.mark.parametrize("share", [0.25, 0.5, 1])
def test_what_was_given_is_handed_over_or_kept(ranks: Callable[[int], Ranks], share: float) -> None:
    ranks(2)(_nothing_is_lost, share)


def _resumed(rank: int, transport: str) -> None:
    ddp, state = attached("topk", transport=transport, warmup=1)
    train(ddp, rank, 4)
    saved, weights = state.state_dict(), [p.detach().clone() for p in ddp.parameters()]
    assert all(entry.abs().max() > 0 for entry in saved["pending"].values())
    train(ddp, rank, 3, first=4)
    wanted = flat(ddp)
    with torch.no_grad():
        for parameter, weight in zip(ddp.parameters(), weights, strict=True):
            parameter.copy_(weight)
    state.load_state_dict(saved)
    train(ddp, rank, 3, first=4)
    assert torch.equal(flat(ddp), wanted)
    assert_replicas(ddp)

    without = {name: value for name, value in saved.items() if name != "pending"} | {"version": 2}
    state.load_state_dict(without)
    assert all(entry.abs().max() == 0 for entry in _pending(state).values())
    saved["pending"]["middle.weight"][0, 0] += rank
    with pytest.raises(InvalidArgument, match=r"the state to load.*pending"):
        state.load_state_dict(saved)
    saved["pending"]["middle.weight"] = torch.zeros(3, 96)
    with pytest.raises(
        InvalidArgument, match=r"the pending part of middle\.weight is \(3, 96\) in the state"
    ):
        state.load_state_dict(saved)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_saving_and_resuming(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_resumed, transport)


def _not_finite(rank: int) -> None:
    """A bucket for each matrix: what the finite one left for later is forgotten too."""
    model = Weights((160, 96), (160, 96))
    ddp, state = attached("topk", model, warmup=0)

    def step(number: int, poison: float, where: int) -> None:
        gradients = [noise(rank + 10 * i, number, 160, 96) for i in range(2)]
        gradients[where][3, 4] += poison if rank == 1 else 0.0
        ddp.zero_grad()
        ddp(gradients).backward()

    step(0, 0.0, 0)
    before = _pending(state)
    for where in range(2):
        step(1, float("nan"), where)
        assert model.weights[where].grad.isnan().any()
        _assert_same(_pending(state), before)
    state.close()


def test_a_step_that_is_not_finite_leaves_nothing(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_not_finite)


def _scaled(rank: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)
    ddp, state = attached("topk", scaler=scaler, warmup=0)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.0)

    def step(number: int) -> None:
        optimizer.zero_grad()
        scaler.scale(ddp(noise(rank, number, 4, 64)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(0)
    before = _pending(state)
    assert scaler.get_scale() == 128
    state.stepper._follow_loss_scale()
    _assert_same(_pending(state), {name: 2 * entry for name, entry in before.items()})
    state.close()


def test_it_follows_the_loss_scale(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_scaled)


def _idle(rank: int) -> None:
    """Without new gradients the rest is still handed over."""
    model = Weights((96, 80))
    ddp, state = attached("topk:density=0.5", model, warmup=0)
    ddp([noise(rank, 0, 96, 80)]).backward()
    before = _pending(state)["weights.0"].float().abs().sum()
    ddp.zero_grad()
    ddp([torch.zeros(96, 80)]).backward()
    assert model.weights[0].grad.abs().sum() > 0
    after = _pending(state)["weights.0"].float().abs().sum()
    assert 0.7 * before < after < 0.8 * before
    state.close()


def test_a_zero_gradient_hands_on_what_is_left(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_idle)


def _disagree(rank: int) -> str:
    return str(error_of(lambda: attached("topk", share=0.25 + 0.25 * rank)))


def test_ranks_that_disagree(ranks: Callable[[int], Ranks]) -> None:
    for said in ranks(2)(_disagree):
        assert "share" in said


@pytest.mark.parametrize("share", [0, -1, 1.5, 0.001, float("nan"), True, "half"])
def test_what_is_no_share(share: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^share is .*; it must be a number from 0.015625 to 1$"):
        Options.parse({"codec": "topk", "share": share})


def test_defaults() -> None:
    def share(codec: str, **more: object) -> float:
        return Options.parse({"codec": codec, **more}).policy(()).share

    assert share("topk") == 0.25
    assert share("topk", basis=0) == share("sign1") == share("int4") == 1
    assert share("sign1", share=0.5) == 0.5
