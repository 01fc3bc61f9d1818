"""Ranks that never come, die or hang are named on all others, soon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from ddp.ranks import Ranks
from ddp.training import attached, error_of, make_ddp, plain_step, train
from thinwire import PeerLost, Timeout
from thinwire.ddp import attach


def _late(rank: int) -> float:
    ddp = make_ddp()
    start = time.monotonic()
    if rank == 0:
        error = error_of(lambda: attach(ddp, timeout=1.0))
        assert isinstance(error, Timeout)
        assert str(error) == "rank 1 has not made its HookState within 1 s (option timeout)"
    return time.monotonic() - start


def test_a_rank_that_never_comes_is_named(fresh_ranks: Callable[[int], Ranks]) -> None:
    assert fresh_ranks(2)(_late)[0] < 5


def _killed(rank: int, transport: str) -> list[str]:
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    found = []
    for step in (3, 4):
        start = time.monotonic()
        error = error_of(lambda step=step: plain_step(ddp, rank, step))
        assert time.monotonic() - start < 5
        found.append(type(error).__name__)
    state.close()
    return found


@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_a_killed_peer_raises_on_the_others(fresh_ranks: Callable[[int], Ranks], transport: str) -> None:
    outcomes = fresh_ranks(3).outcomes(_killed, transport)
    assert outcomes == [("result", ["PeerLost"] * 2)] * 2 + [("died", -signal.SIGKILL)]


def _killed_of_two(rank: int, transport: str) -> tuple[str, int | None]:
    ddp, _ = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert isinstance(error, PeerLost)
    return str(error)[:14], error.rank


@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_the_lost_rank_of_two_is_named(fresh_ranks: Callable[[int], Ranks], transport: str) -> None:
    assert fresh_ranks(2).outcomes(_killed_of_two, transport)[0] == ("result", ("rank 1 is lost", 1))


def _stuck(rank: int, transport: str) -> str:
    """Rank 1 does not reach its backward in time; when it does, rank 0 has left."""
    ddp, state = attached("int8", deadline=2.0, transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        time.sleep(4)
    start = time.monotonic()
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert time.monotonic() - start < 5
    state.close()
    return type(error).__name__


@pytest.mark.parametrize(
    ("transport", "wanted"), [("c10d", ["Timeout", "PeerLost"]), ("native", ["Timeout", "Timeout"])]
)
def test_a_deadline_ends_the_wait_and_releases_the_late_rank(
    fresh_ranks: Callable[[int], Ranks], transport: str, wanted: list[str]
) -> None:
    assert fresh_ranks(2)(_stuck, transport) == wanted
