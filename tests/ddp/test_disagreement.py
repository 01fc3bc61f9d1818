"""Ranks that were told different things, or are at different steps, hear of it on all sides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ddp.ranks import Ranks
from ddp.training import assert_goes_on, attached, error_of, make_ddp, plain_step, train
from thinwire import InvalidArgument
from thinwire.ddp import attach


def _unlike_options(rank: int) -> str:
    ddp = make_ddp()
    error = error_of(lambda: attach(ddp, "int8" if rank == 0 else "int4:block=32"))
    assert isinstance(error, InvalidArgument)
    attach(ddp, "int8").close()
    return str(error)


def test_ranks_that_disagree_on_options(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_unlike_options):
        assert (
            message
            == "ranks disagree on the hook's options: codec is int8 on rank 0, int4:block=32 on rank 1"
        )


def _one_cannot(rank: int, transport: str) -> str:
    ddp = make_ddp()
    error = error_of(lambda: attach(ddp, "int88" if rank == 0 else "int8", transport=transport))
    assert isinstance(error, InvalidArgument)
    state = attach(ddp, "int8", transport=transport)
    train(ddp, rank, 2)
    state.close()
    return str(error)


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_what_goes_wrong_on_one_rank_alone_is_told_the_others(
    ranks: Callable[[int], Ranks], transport: str
) -> None:
    first, second = ranks(2)(_one_cannot, transport)
    assert first.startswith("unknown codec 'int88'")
    assert second == f"rank 0 has not made its HookState: {first}"


def _unlike_plans(rank: int) -> str:
    """One rank cuts its bucket differently, here because of another `small`, set behind its back."""
    ddp, state = attached("int8")
    if rank == 1:
        policy = state._engine._planner._policy
        object.__setattr__(policy, "small", 10**9)
    error = error_of(lambda: plain_step(ddp, rank, 0))
    assert isinstance(error, InvalidArgument)
    if rank == 1:
        object.__setattr__(policy, "small", 4096)
    assert_goes_on(ddp, rank)
    state.close()
    return str(error)


def test_ranks_that_disagree_on_a_plan(ranks: Callable[[int], Ranks]) -> None:
    first, second = ranks(2)(_unlike_plans)
    assert first == second
    assert first == "ranks disagree on the plan of bucket 0: codecs 0 is int8 on rank 0, bf16 on rank 1"


def _out_of_step(rank: int, transport: str) -> str:
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        state.stepper.number += 7
    error = error_of(lambda: plain_step(ddp, rank, 3))
    state.close()
    return str(error)


def test_ranks_that_are_out_of_step(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_out_of_step, "c10d"):
        assert "has step 10, not 3" in message or "has step 3, not 10" in message


def test_ranks_that_are_out_of_step_on_native_links(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_out_of_step, "native"):
        assert message == "ranks disagree: rank 0 began step 3, bucket 0, rank 1 began step 10, bucket 0"
