"""What goes wrong is raised by backward, with its own type, on all ranks, soon; and DDP goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ddp.ranks import Ranks
from ddp.training import assert_goes_on, assert_replicas, attached, error_of, plain_step, train
from thinwire import CorruptFrame, Error
from thinwire.ddp.c10d_wire import Work
from thinwire.ddp.frames import HostFrames
from thinwire.ddp.wire import Wire


def _corrupt_once(wire: Wire, phase: int) -> None:
    """Flip one byte on this rank: of what it sends in phase 1, or of what it has received in phase 2."""
    all_to_all, all_gather = wire.all_to_all, wire.all_gather

    def bad_all_to_all(recv: torch.Tensor, send: torch.Tensor, *sizes: Any) -> Work:
        wire.all_to_all = all_to_all
        send[200] ^= 1
        return all_to_all(recv, send, *sizes)

    def bad_all_gather(recv: torch.Tensor, send: torch.Tensor) -> Work:
        wire.all_gather = all_gather
        work = all_gather(recv, send)
        work.wait()
        recv[200] ^= 1
        return work

    if phase == 1:
        wire.all_to_all = bad_all_to_all
    else:
        wire.all_gather = bad_all_gather


def _bad_frame_to_owner(rank: int) -> str:
    ddp, state = attached("int8", transport="c10d")
    train(ddp, rank, 3)
    if rank == 1:
        _corrupt_once(state._wire, 1)
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert isinstance(error, CorruptFrame)
    assert_goes_on(ddp, rank)
    state.close()
    return str(error)


@pytest.mark.parametrize("size", [2, 3])
def test_a_bad_frame_raises_the_same_on_all_ranks(ranks: Callable[[int], Ranks], size: int) -> None:
    messages = ranks(size)(_bad_frame_to_owner)
    assert len(set(messages)) == 1
    assert (
        "rank 1's frame of step 3, bucket 0, piece 0: corrupt frame: the checksum does not match"
        in messages[0]
    )


def _bad_frame_from_owner(rank: int) -> list[str]:
    """Return the errors of the step in which one rank received a bad mean, and of the next."""
    ddp, state = attached("int8", ddp={"bucket_cap_mb": 25}, transport="c10d")
    train(ddp, rank, 3)
    if rank == 1:
        _corrupt_once(state._wire, 2)
    found = []
    for step in (3, 4):
        try:
            plain_step(ddp, rank, step)
            found.append("")
        except CorruptFrame as error:
            found.append(str(error))
    _goes_on_after_divergence(ddp, rank)
    state.close()
    return found


def _goes_on_after_divergence(ddp: DistributedDataParallel, rank: int) -> None:
    ddp.zero_grad()
    plain_step(ddp, rank, 50)
    assert_replicas(nn.ParameterList([nn.Parameter(p.grad) for p in ddp.parameters()]))


def test_a_bad_mean_is_told_to_all_ranks_in_the_next_step(ranks: Callable[[int], Ranks]) -> None:
    (first, first_next), (second, second_next) = ranks(2)(_bad_frame_from_owner)
    assert first == ""
    assert second == first_next == second_next
    assert "rank 0's frame of step 3" in second


def _fails_to_encode(rank: int) -> list[str]:
    ddp, state = attached("int8", transport="c10d")
    train(ddp, rank, 2)
    encode = HostFrames._encode

    def fail_once(self: HostFrames, *arguments: Any) -> None:
        HostFrames._encode = encode
        raise ZeroDivisionError("out of luck")

    if rank == 0:
        HostFrames._encode = fail_once
    error = error_of(lambda: plain_step(ddp, rank, 2))
    assert_goes_on(ddp, rank)
    state.close()
    return [type(error).__name__, str(error)]


def test_an_unexpected_failure_reaches_all_ranks(ranks: Callable[[int], Ranks]) -> None:
    found = ranks(2)(_fails_to_encode)
    assert found == [["Error", "ZeroDivisionError: out of luck"]] * 2


def _outside_backward(rank: int) -> None:
    """Rank 0 has joined when the error happens; it is not in backward, so close() raises it."""
    ddp, state = attached("int8", transport="c10d")
    with ddp.join():
        for step in range(1 + 2 * rank):
            if step == 2:
                _corrupt_once(state._wire, 1)
                with pytest.raises(CorruptFrame):
                    plain_step(ddp, rank, step)
            else:
                plain_step(ddp, rank, step)
    if rank == 0:
        with pytest.raises(CorruptFrame):
            state.report()
    state.close()


def test_an_error_outside_backward_waits_for_report(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_outside_backward)


def _alone(rank: int, how: str) -> str:
    """Return the error of a rank that cannot learn from a mean from which the other one has learnt."""
    ddp, state = attached("sign1", ddp={"bucket_cap_mb": 25}, transport="c10d", warmup=1)
    train(ddp, rank, 3)
    if rank == 1 and how == "damaged":
        _corrupt_once(state._wire, 2)
    if rank == 1 and how == "no memory":
        for program in state._engine._planner.programs():
            program.end = lambda buffer, step: [][0]
    for step in (3, 4):
        try:
            plain_step(ddp, rank, step)
        except Error as error:
            return f"{type(error).__name__} in step {step}"
    return "none"


@pytest.mark.parametrize("how", ["damaged", "no memory"])
def test_a_rank_whose_bases_would_be_others_ends_the_group(
    fresh_ranks: Callable[[int], Ranks], how: str
) -> None:
    """The other could not tell from its frames: they would be decoded along other vectors."""
    first, second = fresh_ranks(2)(_alone, how)
    assert second in ("CorruptFrame in step 3", "Error in step 3")
    assert first in ("PeerLost in step 4", "TransportError in step 4", "PeerLost in step 3")
