"""Shared bases from one run to the next, and what says how large they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_equal_bases,
    assert_same_bases,
    attached,
    bases_of,
    codings_of,
    error_of,
    flat,
    train,
)
from thinwire import InvalidArgument
from thinwire.ddp.options import Options

Saved = dict[str, Any]


def _saving(rank: int) -> None:
    ddp, state = attached("sign1", warmup=1)
    train(ddp, rank, 3)
    saved = state.state_dict()
    assert {type(vectors) for vectors in saved["bases"].values()} == {torch.Tensor}
    train(ddp, rank, 1, first=3)
    assert (state.state_dict()["bases"]["first.weight"] != saved["bases"]["first.weight"]).any()
    state.load_state_dict(saved)
    assert_same_bases(bases_of(state), {name: v.numpy() for name, v in saved["bases"].items()})

    without = {name: value for name, value in saved.items() if name != "bases"} | {"version": 1}
    state.load_state_dict(without)
    begun = bases_of(state)["first.weight"]
    assert (begun != saved["bases"]["first.weight"].numpy()).any()
    again, fresh = attached("sign1", warmup=1)
    train(again, rank, 1)
    fresh.load_state_dict(without)
    assert_same_bases(bases_of(fresh), bases_of(state))
    train(ddp, rank, 2)
    assert_equal_bases(state)
    state.close()
    fresh.close()


def test_saving_and_loading(ranks: Callable[[int], Ranks]) -> None:
    """Also a state from before bases were saved: they begin anew."""
    ranks(2)(_saving)


def _other_shape(rank: int) -> None:
    ddp, state = attached("sign1", warmup=1, basis=4)
    train(ddp, rank, 2)
    saved = state.state_dict()
    state.close()
    wanted = r"the basis of (first|middle|last)\.weight is \(4, \d+\) in the state, \(8, \d+\) here"
    ddp, state = attached("sign1", warmup=1)
    train(ddp, rank, 2)
    before = bases_of(state)
    with pytest.raises(InvalidArgument, match=wanted):
        state.load_state_dict(saved)
    assert_same_bases(bases_of(state), before)
    missing = {**saved, "bases": {"first.weight": torch.zeros(8, 64)}}
    with pytest.raises(InvalidArgument, match=r"no basis for parameter last\.weight, middle\.weight"):
        state.load_state_dict(missing)
    state.close()
    ddp, state = attached("sign1", warmup=1)
    state.load_state_dict(saved)  # what the parameters need is known at their first use
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=wanted):
            train(ddp, rank, 1)
    state.close()


def test_a_basis_of_another_shape_is_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_other_shape)


def _different(rank: int) -> None:
    ddp, state = attached("sign1", warmup=1)
    train(ddp, rank, 2)
    saved = state.state_dict()
    saved["bases"]["middle.weight"][0, 0] += rank
    with pytest.raises(InvalidArgument, match=r"the state to load.*bases"):
        state.load_state_dict(saved)
    train(ddp, rank, 1)
    assert_equal_bases(state)
    state.close()


def test_ranks_that_load_different_bases(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_different)


def _disagree(rank: int, option: str) -> str:
    return str(error_of(lambda: attached("sign1", **{option: 4 + rank})))


@pytest.mark.parametrize("option", ["basis", "warmup"])
def test_ranks_that_disagree(ranks: Callable[[int], Ranks], option: str) -> None:
    for said in ranks(2)(_disagree, option):
        assert option in said
        assert "4" in said
        assert "5" in said


def _too_many(rank: int) -> str:
    return str(error_of(lambda: attached("sign1", Weights((600, 80), (600, 9)), basis=16)))


def test_more_vectors_than_a_side_has(ranks: Callable[[int], Ranks]) -> None:
    for said in ranks(2)(_too_many):
        assert said.startswith("weights.1: basis=16 is above the sides of a parameter of shape (600, 9)")


@pytest.mark.parametrize("rank", [-1, 33, 2.0, True, "8"])
def test_numbers_of_vectors_that_no_basis_has(rank: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"basis is .* a number of vectors up to 32"):
        Options.parse({"basis": rank})


@pytest.mark.parametrize(
    ("codec", "given", "spec", "rank", "warmup", "protects"),
    [
        ("int8", {}, "int8", 0, 0, False),
        ("int4", {}, "int4", 0, 0, False),
        ("int4", {"basis": 4}, "int4", 4, 0, False),
        ("int2", {}, "int2", 4, 10, False),
        ("ternary", {}, "ternary", 4, 10, False),
        ("sign1", {}, "sign1:block=1024", 8, 10, False),
        ("sign1:block=64", {}, "sign1:block=64", 8, 10, False),
        ("sign1", {"basis": 0}, "sign1", 0, 40, True),
        ("topk", {}, "topk", 8, 10, False),
        ("topk", {"basis": 0, "warmup": 5}, "topk", 0, 5, True),
    ],
)
def test_defaults(codec: str, given: Saved, spec: str, rank: int, warmup: int, protects: bool) -> None:
    policy = Options.parse({"codec": codec, **given}).policy(list(Net().modules()))
    assert (str(policy.codec), policy.rank, policy.warmup) == (spec, rank, warmup)
    assert bool(policy.protected) == protects


def _without_basis(rank: int) -> tuple[bytes, bytes]:
    """With basis=0 no option of it matters: frames and states are those of a codec without one."""
    ddp, state = attached("int4", basis=0)
    train(ddp, rank, 3)
    assert state.state_dict()["bases"] == {}
    assert state.report().as_dict()["basis_bytes"] == 0
    plain, other = attached("int4")
    train(plain, rank, 3)
    assert codings_of(state) == codings_of(other) == {"int4", "bf16"}
    state.close()
    other.close()
    return flat(ddp).numpy().tobytes(), flat(plain).numpy().tobytes()


def test_no_basis(ranks: Callable[[int], Ranks]) -> None:
    for found, wanted in ranks(2)(_without_basis):
        assert found == wanted
