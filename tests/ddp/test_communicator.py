"""`tw.ddp.communicator`: a communicator over the ranks of a process group, beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import thinwire as tw
from ddp.ranks import Ranks
from ddp.training import assert_replicas, attached, train
from thinwire import InvalidArgument, Timeout
from thinwire.ddp import communicator


def _default_group(rank: int) -> None:
    """Both can be used side by side, and there can be several."""
    size = dist.get_world_size()
    with communicator() as comm, communicator(None, 10.0, links="tcp", secret="word") as other:
        assert isinstance(comm, tw.Communicator)
        assert (comm.rank, comm.world_size, comm.timeout) == (rank, size, 30.0)
        assert (other.timeout, comm.group_number == other.group_number) == (10.0, False)
        assert {link["kind"] for link in comm.stats()["links"]} == {"shm"}
        assert {link["kind"] for link in other.stats()["links"]} == {"tcp"}
        works = [each.all_reduce(torch.full((5000,), rank + 1.0), codec="int8") for each in (comm, other)]
        mine = torch.tensor([float(rank)])
        dist.all_reduce(mine)
        assert mine.item() == sum(range(size))
        for work in works:
            torch.testing.assert_close(
                work.wait(), torch.full((5000,), size * (size + 1) / 2), rtol=0.01, atol=0
            )


@pytest.mark.parametrize("size", [2, 3])
def test_over_the_default_group(ranks: Callable[[int], Ranks], size: int) -> None:
    ranks(size)(_default_group)


def _beside_a_hook(rank: int) -> None:
    ddp, state = attached("int8")
    with communicator() as comm:
        for step in range(3):
            train(ddp, rank, 1, first=step)
            assert comm.all_gather(np.array([rank])).wait().ravel().tolist() == [0, 1]
    assert_replicas(ddp)
    state.close()


def test_beside_a_hook(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_beside_a_hook)


def _part_of_the_ranks(rank: int) -> list[Any]:
    """Ranks are those of the group; who is in none is refused."""
    pair = dist.new_group([0, 2])
    if rank == 1:
        with pytest.raises(InvalidArgument, match="not a member of the process group"):
            communicator(pair)
        return []
    with communicator(pair) as comm:
        return [comm.rank, comm.world_size, float(comm.all_reduce(np.full(3, rank, np.float32)).wait()[0])]


def test_over_some_of_the_ranks(ranks: Callable[[int], Ranks]) -> None:
    assert ranks(3)(_part_of_the_ranks) == [[0, 2, 2.0], [], [1, 2, 2.0]]


def _unlike(rank: int) -> None:
    with pytest.raises(InvalidArgument, match="links is tcp on rank 0, shm on rank 1"):
        communicator(links=("tcp", "shm")[rank])


def test_ranks_that_were_told_different_things(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_unlike)
    ranks(2)(_default_group)


def _one_comes(rank: int) -> None:
    if rank == 0:
        with pytest.raises(Timeout, match="rank 1 has not joined the communicator within 1 s"):
            communicator(timeout=1.0)


def test_a_rank_that_does_not_come_is_named(fresh_ranks: Callable[[int], Ranks]) -> None:
    fresh_ranks(2)(_one_comes)


def test_without_a_process_group() -> None:
    with pytest.raises(InvalidArgument, match="call init_process_group first"):
        communicator()
