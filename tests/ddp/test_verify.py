"""Replicas that differ are found, and the ranks and the first parameter named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddp.ranks import Ranks
from ddp.training import attached, error_of, make_ddp, plain_step, train
from thinwire import ReplicaMismatch
from thinwire.ddp import HookState


def _mismatch(rank: int) -> list[str]:
    ddp, state = attached("int8", verify_every=2)
    train(ddp, rank, 4)
    with torch.no_grad():
        ddp.module.middle.weight[3, 4] += rank == 2
    error = error_of(lambda: plain_step(ddp, rank, 4))
    assert isinstance(error, ReplicaMismatch)
    plain_step(ddp, rank, 5)  # not a step that verifies
    state.close()
    return str(error)


def test_replicas_that_differ_are_found(ranks: Callable[[int], Ranks]) -> None:
    messages = ranks(3)(_mismatch)
    wanted = "before step 4: rank 2 differs from rank 0, first in middle.weight"
    assert messages == [wanted] * 3


def _mismatch_without_model(rank: int) -> str:
    ddp = make_ddp()
    state = HookState("int8", verify_every=2)
    from thinwire.ddp import comm_hook

    ddp.register_comm_hook(state, comm_hook)
    train(ddp, rank, 4)
    with torch.no_grad():
        ddp.module.middle.weight[3, 4] += rank == 1
    error = error_of(lambda: plain_step(ddp, rank, 4))
    state.close()
    return str(error)


def test_replicas_are_verified_without_a_model_too(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_mismatch_without_model):
        assert "rank 1 differs from rank 0, first in parameter" in message
        assert "of shape (96, 96)" in message


def _mismatch_of_a_basis(rank: int, transport: str) -> str:
    ddp, state = attached("sign1", transport=transport, verify_every=2, warmup=1)
    train(ddp, rank, 3)
    saved = state.state_dict()
    if rank == 1:
        saved["bases"]["middle.weight"][0, 0] += 1
    # By the back door: load_state_dict itself compares the bases.
    state._memory.bases.load(saved["bases"])
    error = error_of(lambda: train(ddp, rank, 2, first=3))
    assert isinstance(error, ReplicaMismatch)
    state.close()
    return str(error)


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_bases_that_differ_are_found(ranks: Callable[[int], Ranks], transport: str) -> None:
    for message in ranks(2)(_mismatch_of_a_basis, transport):
        assert "rank 1 differs from rank 0, first in" in message
