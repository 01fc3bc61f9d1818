"""Several ranks, one step: it counts when all their parts are durable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from at_once import at_once  # noqa: E402
from thinwire.errors import InvalidArgument, NotFound, Timeout  # noqa: E402
from thinwire.store.checkpoint import Checkpointer  # noqa: E402
from thinwire.store.store import Store  # noqa: E402


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def ranks(
    store: Store, count: int, session: str = "one", timeout: float = 60, **options: int
) -> list[Checkpointer]:
    return [
        Checkpointer(store, rank=rank, world_size=count, session=session, timeout=timeout, **options)
        for rank in range(count)
    ]


def save(savers: list[Checkpointer], step: int) -> None:
    saves = [
        saver.save(
            {"x": torch.full((100_000,), step)} if rank == 0 else None,
            step,
            blocking=False,
            rank_state={"residual": torch.full((50_000,), 10 * step + rank)},
        )
        for rank, saver in enumerate(savers)
    ]
    for each in saves:
        each.wait_durable()


def test_every_rank_finds_its_own_state(store: Store) -> None:
    savers = ranks(store, 3)
    for step in (1, 2):
        save(savers, step)
    for rank, saver in enumerate(savers):
        assert saver.load_rank_state()["residual"][0] == 20 + rank
        assert saver.load_rank_state(step=1)["residual"][0] == 10 + rank
        assert (saver.load()["x"] == 2).all()
    later = Checkpointer(store)  # another world size
    assert [state["residual"][0] for state in later.load_rank_states()] == [20, 21, 22]
    assert later.load_rank_state(rank=3) is None


def test_a_step_lacks_nothing_when_a_rank_is_late(store: Store) -> None:
    savers = ranks(store, 2)
    save(savers, 1)
    first = savers[0].save({"x": torch.zeros(5)}, 2, blocking=False)
    assert savers[0].latest() == 1
    assert not first.done()
    savers[1].save(None, 2)
    first.wait_durable()
    assert savers[1].latest() == 2


def test_a_rank_that_never_comes_leaves_the_last_step(store: Store) -> None:
    save(ranks(store, 2), 1)
    savers = ranks(store, 2, session="two", timeout=0.3)
    with pytest.raises(Timeout, match="rank 1 has not stored its part"):
        savers[0].save({"x": torch.zeros(5)}, 2)
    assert savers[0].latest() == 1
    with pytest.raises(Timeout, match="rank 0 has not committed"):
        savers[1].save(None, 2)


def test_a_save_that_fails_on_one_rank_mixes_no_steps(store: Store) -> None:
    savers = ranks(store, 2, timeout=3)
    with pytest.raises(InvalidArgument):
        savers[1].save(None, 1, rank_state={"residual": object()})
    alone = savers[0].save({"x": torch.zeros(5)}, 1, blocking=False, rank_state={"residual": 10})
    with pytest.raises(Timeout, match="rank 1 has not stored its part"):
        alone.wait_durable()
    for step in (2, 1):  # the next one, and the failed one again
        save(savers, step)
        states = savers[0].load_rank_states(step)
        assert [state["residual"][0] for state in states] == [10 * step, 10 * step + 1]


def test_what_a_crashed_job_left_is_not_taken_for_a_part(store: Store) -> None:
    save(ranks(store, 2), 1)
    crashed = ranks(store, 2, session="crashed", timeout=0.1)
    with pytest.raises(Timeout):
        crashed[1].save(None, 2, rank_state={"residual": "old"})
    savers = ranks(store, 2, session="again")
    one = savers[0].save({"x": 1}, 2, blocking=False)
    two = savers[1].save(None, 2, blocking=False, rank_state={"residual": "new"})
    for each in (one, two):
        each.wait_durable()
    assert savers[1].load_rank_state() == {"residual": "new"}
    assert len(store.versions("checkpoint/rank1")) == 2, "the crashed job's part is gone"


def test_parts_go_with_their_step(store: Store) -> None:
    savers = ranks(store, 2, keep_last=2)
    for step in range(5):
        save(savers, step)
    assert savers[0].steps() == [3, 4]
    assert len(store.versions("checkpoint/rank1")) == 2
    savers[0].delete(3)
    assert len(store.versions("checkpoint/rank1")) == 1
    with pytest.raises(NotFound):
        savers[0].load_rank_states(3)


def test_ranks_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as one, Store(tmp_path) as two:
        savers = [
            Checkpointer(store, rank=rank, world_size=2, session="s") for rank, store in enumerate((one, two))
        ]

        def work(rank: int) -> None:
            for step in range(4):
                shared = {"x": step} if rank == 0 else None
                savers[rank].save(shared, step, rank_state={"r": step * 2 + rank})

        at_once(work, 2)
        assert [state["r"] for state in savers[0].load_rank_states()] == [6, 7]


def test_bad_arguments(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="need a session"):
        Checkpointer(store, rank=0, world_size=2)
    with pytest.raises(InvalidArgument, match="rank is 2"):
        Checkpointer(store, rank=2, world_size=2, session="x")
    with pytest.raises(InvalidArgument, match="rank 0 must pass"):
        Checkpointer(store).save(None, 1)
