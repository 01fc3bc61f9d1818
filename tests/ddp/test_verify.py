"""Replicas that differ are found, and the ranks and the first parameter named."""

from __future__ import annotations

from collections.abc import Callable

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
    wanted = "before step 4: the parameters of rank 2 differ from those of rank 0, first in middle.weight"
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
        assert "of rank 1 differ from those of rank 0, first in parameter" in message
        assert "of shape (96, 96)" in message
