"""What a codec of few entries brings is handed over in parts, and none of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, assert_same_tensors, attached, error_of, flat, noise, train
from thinwire import InvalidArgument
from thinwire.ddp import HookState, Options
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.names import Names


def _pending(state: HookState) -> dict[str, torch.Tensor]:
    return {name: entry.clone() for name, entry in state.state_dict()["pending"].items()}


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
        assert_same_tensors(_pending(state), before)
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
    assert_same_tensors(_pending(state), {name: 2 * entry for name, entry in before.items()})
    state.close()


def test_it_follows_the_loss_scale(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_scaled)


def _unused(rank: int, transport: str) -> None:
    """DDP leaves the gradient alone of a parameter that no rank uses: nothing may be put there."""
    ddp, state = attached("topk", transport=transport, warmup=0, ddp={"find_unused_parameters": True})
    train(ddp, rank, 2)
    before = _pending(state)
    for step in range(2, 4):
        ddp.zero_grad(set_to_none=True)
        ddp(noise(rank, step, 4, 64), skip_middle=True).square().mean().backward()
        assert ddp.module.middle.weight.grad is None
        found = _pending(state)
        assert torch.equal(found["middle.weight"], before["middle.weight"])
        assert not torch.equal(found["last.weight"], before["last.weight"])
    train(ddp, rank, 1, first=4)
    assert not torch.equal(_pending(state)["middle.weight"], before["middle.weight"])
    assert_replicas(ddp)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_what_is_left_stays_while_no_rank_uses_a_parameter(
    ranks: Callable[[int], Ranks], transport: str
) -> None:
    ranks(2)(_unused, transport)


class _Convolution(nn.Module):
    """A kernel whose gradient a test sets."""

    def __init__(self, memory_format: torch.memory_format) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(48, 16, 3, 3).to(memory_format=memory_format))

    def forward(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the loss whose gradient is `gradient`."""
        return (self.weight * gradient).sum()


def _another_memory_format(rank: int, before: torch.memory_format, after: torch.memory_format) -> None:
    given, handed_over, saved = (
        torch.zeros(2, 48, 16, 3, 3).double(),
        torch.zeros(48, 16, 3, 3).double(),
        None,
    )
    for memory_format in (before, after):
        model = _Convolution(memory_format)
        ddp, state = attached("topk", model, warmup=1)
        if saved is not None:
            state.load_state_dict(saved)
            ddp.zero_grad()
            ddp(torch.zeros(48, 16, 3, 3)).backward()  # makes the entries, and hands nothing over
            loaded = state.state_dict()
            for what in ("pending", "bases"):
                assert torch.equal(loaded[what]["weight"], saved[what]["weight"]), what
        for step in range(4):
            gradient = noise(rank, step, 48, 16, 3, 3)
            ddp.zero_grad()
            ddp(gradient).backward()
            given[0] += gradient.double() / 2
            handed_over += model.weight.grad.double()
        saved = state.state_dict()
        state.close()
    assert saved is not None
    assert saved["pending"]["weight"].shape == (48, 16, 3, 3)
    assert saved["bases"]["weight"].shape == (8, 16, 3, 3)
    given[1] = saved["residuals"]["weight"].double()
    dist.all_reduce(given)
    assert torch.allclose(given[0], handed_over + given[1] + saved["pending"]["weight"].double(), atol=1e-4)


@pytest.mark.parametrize("before", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("after", [torch.contiguous_format, torch.channels_last])
def test_a_state_suits_every_memory_format(
    ranks: Callable[[int], Ranks], before: torch.memory_format, after: torch.memory_format
) -> None:
    ranks(2)(_another_memory_format, before, after)


def _before_version_5(rank: int, memory_format: torch.memory_format) -> None:
    """They were saved as they lie in memory: rows of what a row has."""
    ddp, state = attached("topk", _Convolution(memory_format), warmup=0)
    ddp(noise(rank, 0, 48, 16, 3, 3)).backward()
    saved = state.state_dict()
    in_rows = {
        what: {name: _as_in_memory(entry, memory_format) for name, entry in saved[what].items()}
        for what in ("pending", "bases")
    }
    state.load_state_dict({**saved, **in_rows, "version": 4})
    for what in in_rows:
        assert torch.equal(state.state_dict()[what]["weight"], saved[what]["weight"])
    state.close()
    _, at_once = attached("int8", _Convolution(memory_format))
    at_once.load_state_dict({**saved, **in_rows, "version": 4})
    part = saved["pending"]["weight"].float() if rank == 0 else torch.zeros(())
    assert torch.equal(at_once.state_dict()["residuals"]["weight"], saved["residuals"]["weight"] + part)
    at_once.close()


def _as_in_memory(entry: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    is_last = memory_format == torch.channels_last
    return (entry.permute(0, 2, 3, 1) if is_last else entry).flatten(1).contiguous()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_state_from_before_matrices_were_saved_by_their_dimensions(
    ranks: Callable[[int], Ranks], memory_format: torch.memory_format
) -> None:
    ranks(2)(_before_version_5, memory_format)


def _another_codec(rank: int, codec: str, options: dict[str, Any]) -> None:
    """A codec that hands over all at once finds what waited in the residuals."""
    ddp, state = attached("topk", warmup=0)
    train(ddp, rank, 3)
    saved = state.state_dict()
    state.close()
    _, other = attached(codec, **options)
    other.load_state_dict(saved)
    loaded = other.state_dict()
    assert loaded["pending"] == {}
    assert saved["pending"]
    for name, residual in saved["residuals"].items():
        part = saved["pending"][name].float() if rank == 0 else torch.zeros(())
        assert torch.equal(loaded["residuals"][name], residual + part)
    other.close()


@pytest.mark.parametrize(("codec", "options"), [("int8", {}), ("topk", {"share": 1}), ("topk", {"basis": 0})])
def test_a_codec_that_hands_over_at_once_takes_what_waits(
    ranks: Callable[[int], Ranks], codec: str, options: dict[str, Any]
) -> None:
    ranks(2)(_another_codec, codec, options)


def _of_one_rank(rank: int) -> None:
    """Where rank 0's own state is lost, its residuals begin with what waits."""
    ddp, state = attached("topk", warmup=0)
    train(ddp, rank, 3)
    pending, saved = _pending(state), [{**state.state_dict(), "rank": 1, "residuals": {}}]
    state.close()
    _, other = attached("int8")
    other.load_state_dict(saved)
    for name, residual in other.state_dict()["residuals"].items():
        assert torch.equal(residual, pending[name].float() * (rank == 0))
    other.close()


def test_what_waits_is_kept_where_residuals_are_lost(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_of_one_rank)


def _residuals(names: Names, parameter: torch.Tensor | None) -> Residuals:
    return Residuals(torch.float32, False, names, None if parameter is None else [parameter])


def test_what_no_residual_can_take_is_named(caplog: pytest.LogCaptureFixture) -> None:
    parameter = torch.zeros(4, 2)
    names = Names({parameter: "w"})
    kept = _residuals(names, parameter)
    kept.take_in({"w": torch.ones(4, 2).bfloat16()})
    assert kept.state()["w"].sum() == 8
    with pytest.raises(InvalidArgument, match=r"the pending part of w is \(3,\) in the state, \(4, 2\) here"):
        kept.check_parts({"w": torch.ones(3)})
    loaded = _residuals(names, None)
    loaded.load({"w": torch.zeros(4, 2), "v": torch.zeros(4, 2)})
    loaded.take_in({"w": torch.ones(4, 2).bfloat16()})
    assert loaded.state()["w"].sum() == 8
    assert not caplog.records
    loaded.take_in({"v": torch.ones(3), "x": torch.ones(4, 2)})
    assert "what waits for v, x is dropped" in caplog.text


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
