"""What a communicator says of itself, and that waiting costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from comm_ranks import Start, Threads
from thinwire._comm import Communicator
from thinwire._work import Work


def test_done_and_stats(ranks: Start) -> None:
    def reduce(comm: Communicator) -> None:
        before = comm.stats()
        work = comm.all_reduce(np.ones(200_000, np.float32), codec="int8")
        work.wait()
        assert work.done()
        work.wait()
        after = comm.stats()
        assert after["operations"] == before["operations"] + 1
        sent = [link["sent_bytes"] for link in after["links"]]
        assert sum(sent) > sum(link["sent_bytes"] for link in before["links"])
        assert sum(sent) < 10 * 4 * 200_000

    ranks(2, links="tcp")(reduce)


@pytest.mark.parametrize(("count", "late"), [(10, 1), (20_000, 2), (1_000_000, 0)])
@pytest.mark.parametrize(
    ("collective", "algorithm"),
    [
        ("all_reduce", "direct"),
        ("all_reduce", "ring"),
        ("all_reduce", "bidirectional"),
        ("all_reduce", "hierarchical"),
        ("reduce_scatter", "ring"),
        ("all_gather", "direct"),
        ("all_gather", "ring"),
    ],
)
def test_all_who_waited_name_the_rank_that_came_late(
    collective: str, algorithm: str, count: int, late: int
) -> None:
    check_named(late, lambda comm: getattr(comm, collective)(np.ones(count, np.float32), algorithm=algorithm))


def test_doubling_names_the_rank_that_came_late() -> None:
    for late in range(3):
        check_named(late, Communicator.barrier)


def test_a_source_is_named_by_those_it_does_not_send_to() -> None:
    check_named(0, lambda comm: comm.broadcast(np.ones(300_000, np.float32), 0, algorithm="ring"))


def test_a_rank_that_is_not_ready_is_named_by_those_whose_values_wait_for_it() -> None:
    """More than the source sends before all are ready."""
    check_named(1, lambda comm: comm.broadcast(np.ones(4_000_000, np.float32), 0, algorithm="direct"))


def check_named(late: int, start: Callable[[Communicator], Work]) -> None:
    seconds = 0.3

    def run(comm: Communicator) -> dict[str, Any]:
        assert comm.stats()["slowest_peer"] is None
        if comm.rank == late:
            time.sleep(seconds)
        start(comm).wait()
        return comm.stats()

    with Threads(3, links="inproc", each=[{"site": site} for site in "abb"]) as threads:
        found = threads(run)
    for stats in found:
        if stats["rank"] == late:
            assert stats["waited_seconds"][late] == 0
        else:
            assert stats["slowest_peer"] == late, stats
            assert stats["waited_seconds"][late] > 0.8 * seconds


def test_a_single_rank_has_no_slowest_peer() -> None:
    with Threads(1) as threads:
        threads(lambda comm: comm.all_reduce(np.ones(100, np.float32)).wait())
        assert threads.comms[0].stats()["slowest_peer"] is None


def test_waiting_costs_nothing() -> None:
    seconds = 3.0
    with Threads(2, links="shm") as shared, Threads(2, links="tcp", timeout=30.0) as remote:
        comms = [*shared.comms, *remote.comms]
        for comm in comms:
            comm.stats()
        before = [comm.stats()["busy_seconds"] for comm in comms]
        time.sleep(seconds)
        after = [comm.stats()["busy_seconds"] for comm in comms]
    for begin, end in zip(before, after, strict=True):
        assert end - begin < 0.001 * seconds
