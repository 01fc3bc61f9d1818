"""Factors from step to step and from one run to the next, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ddp.factors import CODEC, EXACT, assert_equal_factors, factors_of
from ddp.ranks import Ranks
from ddp.training import (
    Weights,
    assert_replicas,
    assert_same_bases,
    assert_same_tensors,
    attached,
    error_of,
    flat,
    noise,
    step_of_two,
    train,
)
from thinwire import InvalidArgument, NonFinite
from thinwire.ddp.options import Options


def _not_finite(rank: int, nonfinite: str) -> None:
    """A bucket for each matrix: what the finite one taught is forgotten too, whichever comes first."""
    model = Weights((160, 96), (160, 96))
    ddp, state = attached(CODEC, model, warmup=0, nonfinite=nonfinite)

    step = partial(step_of_two, ddp, rank)
    step(0)
    before = factors_of(state)
    for where in range(2):
        old = state.state_dict()["residuals"]
        if nonfinite == "raise":
            with pytest.raises(NonFinite):
                step(1 + where, float("inf"), where)
        else:
            step(1 + where, float("nan"), where)
            assert model.weights[where].grad.isnan().any()
        assert torch.isfinite(model.weights[1 - where].grad).all()
        assert_same_bases(factors_of(state), before)
        new = state.state_dict()["residuals"]
        assert torch.equal(old[f"weights.{where}"], new[f"weights.{where}"])
        assert not torch.equal(old[f"weights.{1 - where}"], new[f"weights.{1 - where}"])
    step(3)
    assert (factors_of(state)["weights.0"] != before["weights.0"]).any()
    assert torch.isfinite(model.weights[0].grad).all()
    assert_equal_factors(state)
    state.close()


@pytest.mark.parametrize("nonfinite", ["propagate", "raise"])
def test_a_step_that_is_not_finite_teaches_nothing(ranks: Callable[[int], Ranks], nonfinite: str) -> None:
    ranks(2)(_not_finite, nonfinite)


def _skipped(rank: int, transport: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1000)
    ddp, state = attached(CODEC, scaler=scaler, warmup=0, transport=transport)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.01)

    def step(number: int, poison: float = 1.0) -> None:
        optimizer.zero_grad()
        scaler.scale(ddp(noise(rank, number, 4, 64)).square().mean() * poison).backward()
        scaler.step(optimizer)
        scaler.update()

    step(0)
    before = state.state_dict()
    step(1, float("inf") if rank == 1 else 1.0)
    assert scaler.get_scale() == 32
    after = state.state_dict()
    for what in ("residuals", "factors"):
        assert_same_tensors(after[what], before[what])
    step(2)
    follows = state.state_dict()
    assert (follows["factors"]["first.weight"] != before["factors"]["first.weight"]).any()
    assert all((follows["residuals"][name] != r).any() for name, r in before["residuals"].items())
    assert_replicas(ddp)
    assert_equal_factors(state)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_a_step_that_the_scaler_skips_changes_nothing(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_skipped, transport)


def _scaled(rank: int) -> list[bytes]:
    """A loss scale that is a power of two changes no bit of the means, once they are unscaled."""
    found = []
    for scale in (1.0, 1024.0):
        model = Weights((96, 80))
        ddp, state = attached(EXACT, model, warmup=0)
        means = []
        for step in range(5):
            ddp.zero_grad()
            ddp([noise(rank, step, 96, 80) * scale]).backward()
            means.append(model.weights[0].grad / scale)
        found.append(torch.cat(means).numpy().tobytes() + factors_of(state)["weights.0"].tobytes())
        state.close()
    return found


def test_the_scale_does_not_matter(ranks: Callable[[int], Ranks]) -> None:
    for plain, scaled in ranks(2)(_scaled):
        assert plain == scaled


def _idle(rank: int) -> None:
    """A gradient that is zero on all ranks leaves factors and residual; on one rank, its residual."""
    model = Weights((96, 80), (80, 64))
    ddp, state = attached(EXACT, model, {"find_unused_parameters": True}, warmup=0)
    for step in range(5):
        before = state.state_dict()
        gradients = [noise(rank, step, 96, 80), noise(rank, step, 80, 64)]
        gradients[0] *= step != 2
        gradients[1] *= rank == 0 or step != 2
        ddp.zero_grad()
        ddp(gradients).backward()
        if step == 2:
            after = state.state_dict()
            same = {
                (what, i): torch.equal(before[what][f"weights.{i}"], after[what][f"weights.{i}"])
                for what in ("residuals", "factors")
                for i in range(2)
            }
            assert same == {
                ("residuals", 0): True,
                ("factors", 0): True,
                ("residuals", 1): rank == 1,
                ("factors", 1): False,
            }
            assert not model.weights[0].grad.any()
    assert_equal_factors(state)
    state.close()


def test_a_zero_gradient_changes_nothing(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_idle)


def _saving(rank: int, transport: str) -> None:
    """A run that is resumed from a checkpoint goes on bit by bit, in the warm-up and after it."""
    one_layout = {"bucket_cap_mb": 25, "find_unused_parameters": True}  # from the first step on
    for steps in (2, 5, 6):
        ddp, state = attached(CODEC, ddp=one_layout, warmup=3, transport=transport)
        train(ddp, rank, steps)
        saved, weights = state.state_dict(), {k: v.clone() for k, v in ddp.module.state_dict().items()}
        train(ddp, rank, 3, first=steps)
        state.close()
        again, resumed = attached(CODEC, ddp=one_layout, warmup=3, transport=transport)
        again.module.load_state_dict(weights)
        resumed.load_state_dict(saved)
        train(again, rank, 3, first=steps)
        assert torch.equal(flat(ddp), flat(again))
        assert_same_bases(factors_of(resumed), factors_of(state))
        resumed.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_saving_and_loading(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_saving, transport)


def _from_before(rank: int) -> None:
    """A state of a release without factors loads: they begin anew."""
    ddp, state = attached(CODEC, warmup=0)
    train(ddp, rank, 3)
    saved = state.state_dict()
    before = {name: value for name, value in saved.items() if name != "factors"} | {"version": 3}
    state.load_state_dict(before)
    begun = factors_of(state)
    assert (begun["first.weight"] != saved["factors"]["first.weight"].numpy()).any()
    fresh, other = attached(CODEC, warmup=0)
    train(fresh, rank, 1)
    other.load_state_dict(before)
    assert_same_bases(factors_of(other), begun)
    state.close()
    other.close()


def test_a_state_without_factors(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_from_before)


def _other_shape(rank: int) -> None:
    ddp, state = attached("powersgd:rank=2", warmup=1)
    train(ddp, rank, 2)
    saved = state.state_dict()
    state.close()
    wanted = r"the factor pair of (first|middle|last)\.weight is \(\d+,\) in the state, \(\d+,\) here"
    ddp, state = attached(CODEC, warmup=1)
    train(ddp, rank, 2)
    before = factors_of(state)
    with pytest.raises(InvalidArgument, match=wanted):
        state.load_state_dict(saved)
    assert_same_bases(factors_of(state), before)
    state.close()


def test_factors_of_another_rank_are_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_other_shape)


def _different(rank: int) -> None:
    ddp, state = attached(CODEC, warmup=1)
    train(ddp, rank, 2)
    saved = state.state_dict()
    saved["factors"]["middle.weight"][0] += rank
    with pytest.raises(InvalidArgument, match=r"the state to load.*factors"):
        state.load_state_dict(saved)
    train(ddp, rank, 1)
    assert_equal_factors(state)
    state.close()


def test_ranks_that_load_different_factors(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_different)


def _wrong_weights(rank: int) -> None:
    """Weights that do not add up to 1 are refused on all ranks, and change nothing."""
    ddp, state = attached(CODEC, warmup=0)
    train(ddp, rank, 2)
    before = state.state_dict()
    state.set_weight(0.7)
    with pytest.raises(InvalidArgument, match="weights of all ranks"):
        train(ddp, rank, 1)
    after = state.state_dict()
    for what in ("residuals", "factors"):
        assert_same_tensors(after[what], before[what])
    state.set_weight(0.5)
    train(ddp, rank, 1)
    state.close()


def test_a_failed_step_changes_nothing(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_wrong_weights)


def _report(rank: int) -> None:
    ddp, state = attached(CODEC, Weights((512, 256), (1000,)), {"bucket_cap_mb": 25}, warmup=2)
    for step in range(18):
        ddp.zero_grad()
        ddp([noise(rank, step, 512, 256), noise(rank, step, 1000)]).backward()
    values = state.report().as_dict()
    assert values["steps"] == 18 - 3  # it begins anew after the warm-up, and not again for the other side
    assert str(state.report()).startswith("codec                  powersgd:rank=4 on 2 ranks")
    assert values["bytes_plain"] == 4 * (512 * 256 + 1000)
    factors, scales = 4 * (512 + 256) / 2, 2 / 64
    assert values["bytes_sent"] == pytest.approx(factors * (1 + scales) + 2 * 1000, rel=0.1)
    assert values["ratio"] == pytest.approx(values["bytes_plain"] / values["bytes_sent"], rel=1e-3)
    assert 0.8 < values["relative_error"] < 1  # of noise little is sent at once
    state.close()


def test_the_report_counts_factors(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_report)


def _disagree(rank: int) -> str:
    return str(error_of(lambda: attached(f"powersgd:rank={4 + rank}")))


def test_ranks_that_disagree(ranks: Callable[[int], Ranks]) -> None:
    for said in ranks(2)(_disagree):
        assert "codec" in said
        assert "powersgd:rank=4" in said
        assert "powersgd:rank=5" in said


def _too_many(rank: int) -> str:
    return str(error_of(lambda: attached("powersgd:rank=16", Weights((600, 80), (600, 9)))))


def test_more_vectors_than_a_side_has(ranks: Callable[[int], Ranks]) -> None:
    for said in ranks(2)(_too_many):
        assert said.startswith("weights.1: powersgd:rank=16 is above the sides of a parameter")
        assert "(600, 9)" in said


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        ("powersgd:rank=0", "rank is '0'; it must be a number from 1 to 32"),
        ("powersgd:rank=33", "rank is '33'"),
        ("powersgd:rank=-1", "rank is '-1'"),
        ("powersgd:rank=2.0", "rank is '2.0'"),
        ("powersgd:rank=", "rank is ''"),
        ("powersgd:rank=²", "rank is '²'"),
        ("powersgd:factors=int4", "factors is 'int4'; it must be one of int8, bf16, fp32"),
        ("powersgd:block=64", "powersgd takes rank and factors"),
        ("powersgd:rank=2,rank=3", "once each"),
        ("powersgd:4", "as in 'powersgd:rank=4'"),
    ],
)
def test_requests_that_cannot_be(codec: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Options.parse({"codec": codec})
    assert said in str(raised.value)


@pytest.mark.parametrize("option", [{"basis": 4}, {"share": 0.5}])
def test_it_has_no_basis(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="has no basis"):
        Options.parse({"codec": CODEC, **option})


@pytest.mark.parametrize(
    ("codec", "shape", "factors"),
    [
        ("powersgd", (64, 64), (4, 64, 64)),
        ("powersgd:rank=4,factors=bf16", (512, 8), (4, 512, 8)),
        ("powersgd:rank=5", (512, 8), None),  # a factor would have more than half of the values
        ("powersgd", (2048, 2), None),  # nobody asked for just four vectors
        ("powersgd", (63, 65), None),
        ("powersgd", (5000,), None),
        ("powersgd", (48, 16, 3, 3), (4, 48, 144)),
        ("powersgd", (16, 1 << 16), None),
    ],
)
def test_which_parameters_travel_as_factors(
    codec: str, shape: tuple[int, ...], factors: tuple[int, int, int] | None
) -> None:
    policy = Options.parse({"codec": codec}).policy(())
    parameter = torch.zeros(shape)
    found = policy.factors_of(parameter)
    assert (found and (found.rank, found.rows, found.columns)) == factors
    assert policy.keeps_residual(parameter) == (factors is not None)
    sent = {warm: str(policy.coding_of(parameter, torch.float32, warm).codec) for warm in (False, True)}
    if factors is None:
        assert sent == {False: "bf16", True: "bf16"}
    else:
        assert sent == {False: "int4", True: "bf16" if "bf16" in codec else "int8:block=64"}


@pytest.mark.parametrize(("given", "warmup"), [({}, 10), ({"warmup": 3}, 3), ({"warmup": 0}, 0)])
def test_warm_up(given: dict[str, int], warmup: int) -> None:
    policy = Options.parse({"codec": CODEC, **given}).policy(())
    assert policy.warmup == warmup
    assert policy.sends_left(warmup - 1) is None
    assert policy.sends_left(warmup) is not None
    assert policy.name == CODEC


def _other_defaults(rank: int, codec: str) -> None:
    model = Weights((160, 96))
    gradients = [noise(rank, number, 160, 96) for number in range(4)]
    torch.set_default_dtype(torch.float64)
    try:
        ddp, state = attached(codec, model, warmup=1)
        for gradient in gradients:
            ddp.zero_grad()
            ddp([gradient]).backward()
            assert torch.isfinite(model.weights[0].grad).all()
        assert model.weights[0].grad.dtype == torch.float32
        assert_replicas(ddp)
        state.close()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("codec", [CODEC, "sign1"])
def test_the_default_dtype_is_the_script_s_own_affair(ranks: Callable[[int], Ranks], codec: str) -> None:
    ranks(2)(_other_defaults, codec)
