"""What a HookState keeps: residuals through saving and resizing; the weights of ranks."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ddp.ranks import Ranks
from ddp.training import (
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
from thinwire import InvalidArgument, Timeout, TransportError
from thinwire.ddp import HookState, attach, comm_hook
from thinwire.ddp.checkpoint import merge_states

Saved = dict[str, Any]


def _steps(ddp: DistributedDataParallel, optimizer: torch.optim.Optimizer, rank: int, numbers: range) -> None:
    for number in numbers:
        optimizer.zero_grad()
        plain_step(ddp, rank, number)
        optimizer.step()


def _resume(rank: int, codec: str, with_model: bool) -> None:
    """Training that is saved and taken up again ends with the same bits as training that was not.

    With find_unused_parameters DDP does not rebuild its buckets after the first iteration. Where it does, the
    first step after a restart cuts the parameters in another order, so other ranks round first.
    """

    def start() -> tuple[DistributedDataParallel, HookState, torch.optim.Optimizer]:
        ddp = make_ddp(find_unused_parameters=True)
        if with_model:
            state = attach(ddp, codec, warmup=3)
        else:
            state = HookState(codec, warmup=3)
            ddp.register_comm_hook(state, comm_hook)
        return ddp, state, torch.optim.Adam(ddp.parameters(), 1e-3)

    ddp, state, optimizer = start()
    _steps(ddp, optimizer, rank, range(6))
    saved = (ddp.state_dict(), state.state_dict(), optimizer.state_dict())
    saved = torch.load(_bytes_of(saved), weights_only=True)
    _steps(ddp, optimizer, rank, range(6, 10))

    again, other, second = start()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    _steps(again, second, rank, range(6, 10))
    assert torch.equal(flat(ddp), flat(again))
    ended, resumed = state.state_dict(), other.state_dict()
    assert_same_tensors(ended["residuals"], resumed["residuals"])
    assert bool(ended["bases"]) == bool(resumed["bases"]) == (codec in ("sign1", "topk"))
    if ended["bases"]:
        assert_same_tensors(ended["bases"], resumed["bases"])
    state.close()
    other.close()


def _bytes_of(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("with_model", [True, False])
@pytest.mark.parametrize("codec", ["int8", "sign1", "topk", "int4:rounding=stochastic"])
def test_resuming_gives_the_same_bits(ranks: Callable[[int], Ranks], codec: str, with_model: bool) -> None:
    ranks(2)(_resume, codec, with_model)


def _contents(rank: int) -> None:
    ddp, state = attached("int8")
    train(ddp, rank, 3)
    saved = state.state_dict()
    tensors = saved.pop("residuals")
    assert [saved.pop(what) for what in ("bases", "pending", "factors")] == [{}, {}, {}]
    assert json.loads(json.dumps(saved)) == saved
    assert saved == {"version": 5, "step": 3, "rank": rank, "world_size": 2, "loss_scale": 1.0}
    wanted = {name: p.shape for name, p in ddp.module.named_parameters() if p.dim() == 2}
    assert {name: r.shape for name, r in tensors.items()} == wanted
    assert all(type(r) is torch.Tensor and r.any() for r in tensors.values())
    state.close()


def test_a_state_dict_is_plain_and_named(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_contents)


def _channels_last(rank: int) -> None:
    """A residual is saved in logical order, whatever the memory order of its parameter."""
    conv = nn.Conv2d(16, 48, 3, bias=False).to(memory_format=torch.channels_last)
    ddp, state = attached("int4", conv)
    gradient = noise(rank, 0, 48, 16, 3, 3)
    (_weight_through(ddp) * gradient).sum().backward()
    total = gradient.double() / 2 - state.state_dict()["residuals"]["weight"].double()
    dist.all_reduce(total)
    assert (conv.weight.grad.double() - total).norm() < 1e-6 * total.norm()
    state.close()


def _weight_through(ddp: DistributedDataParallel) -> torch.Tensor:
    """Return, through DDP's forward, the convolution's weight: unit inputs, one a place."""
    units = torch.eye(16 * 9).reshape(144, 16, 3, 3)
    return ddp(units).reshape(144, 48).t().reshape(48, 16, 3, 3)


def test_a_residual_has_its_parameters_order(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_channels_last)


def _wrong_state(rank: int) -> None:
    ddp, state = attached("int8")
    train(ddp, rank, 2)
    good = state.state_dict()
    first = good["residuals"]["first.weight"]
    bad = {
        "has no residual for parameter first.weight": {"residuals": {"middle.weight": first}},
        "which this model has not": {"residuals": {**good["residuals"], "other": first}},
        r"has shape \(64, 96\), the parameter \(96, 64\)": {
            "residuals": {**good["residuals"], "first.weight": first.t()}
        },
        "has version 9": {"version": 9},
    }
    for message, change in bad.items():
        with pytest.raises(InvalidArgument, match=message):
            state.load_state_dict({**good, **change} if rank == 1 else good)  # one rank's is bad: all refuse
    with pytest.raises(InvalidArgument, match="not a state_dict"):
        state.load_state_dict({"step": 3})
    with pytest.raises(InvalidArgument, match="step is 2 on rank 0, 3 on rank 1"):
        state.load_state_dict({**good, "step": 2 + rank})
    assert torch.equal(state.state_dict()["residuals"]["first.weight"], first)
    state.load_state_dict(good)
    train(ddp, rank, 2)
    assert_replicas(ddp)
    state.close()


def test_a_state_that_does_not_fit_is_refused_by_all(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_wrong_state)


def _one_loads(rank: int) -> None:
    _, state = attached("int8", timeout=2.0)
    saved = state.state_dict()
    if rank == 0:
        with pytest.raises(Timeout, match="rank 1 has not called load_state_dict"):
            state.load_state_dict(saved)


def test_a_rank_that_does_not_load_is_named(fresh_ranks: Callable[[int], Ranks]) -> None:
    fresh_ranks(2)(_one_loads)


def _one_is_late(rank: int) -> None:
    _, state = attached("int8", timeout=2.0)
    saved = {**state.state_dict(), "step": 7}
    for turn in range(2):
        if turn == rank:
            with pytest.raises(Timeout, match=f"rank {1 - rank} has not"):
                state.load_state_dict(saved)
        dist.barrier()
    with pytest.raises(TransportError, match="make a new HookState"):  # they may be in different rounds
        state.load_state_dict(saved)
    assert state.state_dict()["step"] == 0


def test_a_rank_that_comes_too_late_does_not_load_alone(fresh_ranks: Callable[[int], Ranks]) -> None:
    fresh_ranks(2)(_one_is_late)


def _save_of(rank: int) -> Saved:
    ddp, state = attached("sign1", warmup=0)
    train(ddp, rank, 3)
    saved = state.state_dict()
    state.close()
    saved["residuals"] = {name: r.tolist() for name, r in saved["residuals"].items()}  # across processes
    return saved


def _load_all(rank: int, states: list[Saved]) -> tuple[int, float]:
    for saved in states:
        saved["residuals"] = {name: torch.tensor(r) for name, r in saved["residuals"].items()}
    ddp, state = attached("sign1", warmup=0)
    state.load_state_dict(states)
    loaded = state.state_dict()
    mine = [s["residuals"] for s in states if s["rank"] % dist.get_world_size() == rank]
    for name, residual in loaded["residuals"].items():
        wanted = sum((part[name] for part in mine), torch.zeros_like(residual))
        assert torch.equal(residual, wanted)
    train(ddp, rank, 2)
    assert_replicas(ddp)
    state.close()
    return loaded["step"], float(sum(r.double().sum() for r in loaded["residuals"].values()))


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3)])
def test_residuals_survive_another_number_of_ranks(
    ranks: Callable[[int], Ranks], before: int, after: int
) -> None:
    saved = ranks(before)(_save_of)
    loaded = ranks(after)(_load_all, saved)
    total = sum(torch.tensor(r, dtype=torch.float64).sum() for s in saved for r in s["residuals"].values())
    assert [step for step, _ in loaded] == [3] * after
    assert sum(part for _, part in loaded) == pytest.approx(float(total), abs=1e-6)


def _saved(rank: int, world_size: int) -> Saved:
    return {
        "version": 2,
        "step": 5,
        "rank": rank,
        "world_size": world_size,
        "loss_scale": 1.0,
        "residuals": {"w": torch.full((2,), float(rank + 1))},
        "bases": {"w": torch.ones(1, 2)},
    }


def _of_version_1(saved: Saved) -> Saved:
    return {name: value for name, value in saved.items() if name != "bases"} | {"version": 1}


def test_a_state_from_before_bases_were_saved() -> None:
    merged = merge_states([_of_version_1(_saved(r, 2)) for r in range(2)], 0, 1)
    assert merged.kept.residuals["w"].tolist() == [3.0, 3.0]
    assert merged.kept.bases == {}


def test_another_ranks_state_gives_the_step_and_no_residuals(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "thinwire.ddp"):
        merged = merge_states(_saved(0, 2), 1, 2)
    assert (merged.step, merged.kept.residuals) == (5, {})
    assert merged.kept.bases["w"].tolist() == [[1.0, 1.0]]
    assert len(caplog.records) == 1
    assert "residuals start from zero" in caplog.text


def test_a_lost_ranks_residuals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "thinwire.ddp"):
        merged = merge_states([_saved(0, 4), _saved(3, 4)], 0, 2)
        assert merged.kept.residuals["w"].tolist() == [1.0, 1.0]
        assert merge_states([_saved(0, 4), _saved(2, 4)], 0, 2).kept.residuals["w"].tolist() == [4.0, 4.0]
        assert merge_states(_saved(1, 2), 1, 2).kept.residuals["w"].tolist() == [2.0, 2.0]
    assert len(caplog.records) == 1
    assert "former rank 2" in caplog.text


@pytest.mark.parametrize(
    "states",
    [
        [],
        7,
        [_saved(0, 2), _saved(0, 2)],
        [_saved(0, 2), _saved(1, 3)],
        [_saved(0, 2), {}],
        [_saved(0, 2), {**_saved(1, 2), "bases": {"w": torch.zeros(1, 2)}}],
        {**_saved(0, 2), "bases": {"w": [[1.0, 1.0]]}},
        {**_saved(0, 2), "bases": None},
        {**_saved(0, 2), "step": -1},
        {**_saved(0, 2), "step": 3.0},
        {**_saved(0, 2), "step": "3"},
        {**_saved(0, 2), "step": torch.tensor(3)},
        {**_saved(0, 2), "step": True},
        {**_saved(0, 2), "rank": 2},
        {**_saved(0, 2), "rank": None},
        {**_saved(0, 2), "world_size": 0},
        {**_saved(0, 2), "loss_scale": 0.0},
        {**_saved(0, 2), "loss_scale": float("nan")},
        {**_saved(0, 2), "loss_scale": "1"},
        {**_saved(0, 2), "residuals": {"w": torch.zeros(2, dtype=torch.int64)}},
    ],
)
def test_states_that_do_not_belong_together(states: Any) -> None:
    with pytest.raises(InvalidArgument):
        merge_states(states, 0, 2)


def _weights(rank: int) -> None:
    model = Weights((80, 80), (9,))
    ddp, state = attached("int8", model)
    gradients = [noise(rank, 0, 80, 80), noise(rank, 1, 9)]
    state.set_weight([0.75, 0.25][rank])
    for _ in range(2):  # it stays
        ddp.zero_grad()
        ddp(gradients).backward()
        for parameter, gradient in zip(model.weights, gradients, strict=True):
            mean = gradient * [0.75, 0.25][rank]
            dist.all_reduce(mean)
            assert (parameter.grad - mean).norm() < 0.02 * mean.norm()
    state.set_weight(0.5 + 0.1 * rank)
    with pytest.raises(InvalidArgument, match=r"must add up to 1, not 1\.1"):
        ddp(gradients).backward()
    state.set_weight(0.5)
    ddp(gradients).backward()
    state.close()


def test_weights(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_weights)


def _weights_fp64(rank: int) -> None:
    model = Weights((80, 80), dtype=torch.float64)
    ddp, state = attached("int8", model)
    gradient = noise(rank, 0, 80, 80).double()
    state.set_weight([0.75, 0.25][rank])
    ddp([gradient]).backward()
    mean = gradient * [0.75, 0.25][rank]
    dist.all_reduce(mean)
    assert torch.equal(model.weights[0].grad, mean)
    state.set_weight(0.75)
    with pytest.raises(InvalidArgument, match=r"must add up to 1, not 1\.5"):
        ddp([gradient]).backward()
    state.close()


def test_weights_of_uncompressed_buckets(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_weights_fp64)
