"""kill -9 at random moments of writers, collectors and copies: nothing that was promised is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash_child import (
    collect,
    context,
    copy,
    empty,
    locations_of,
    promises,
    replica_of,
    wait_until_at_work,
    write,
)
from crash_world import check_afterwards, numbers_in
from thinwire.store.store import Store

LONGEST_WORK_S = 0.25
Crew = list[Callable[..., None]]
CREWS: list[Crew] = [
    [write],
    [write, write],
    [write, collect],
    [write, write, collect],
    [write, collect, collect],
    [write, copy],
    [write, write, collect, copy],
]
EMPTYING: list[Crew] = [[write, empty], [write, write, empty, collect], [write, empty, empty], [empty, copy]]
MOST_AT_WORK = 4


class Round:
    """Processes at work in one store; each is killed at its own moment."""

    def __init__(self, root: Path, number: int, crews: list[Crew]) -> None:
        self._root, self._number, self._crews = root, number, crews
        self._random = random.Random(number)

    def run(self) -> Iterator[Path]:
        """Start a crew, and kill it; what it noted."""
        workers = [self._start(work, i) for i, work in enumerate(self._random.choice(self._crews))]
        try:
            wait_until_at_work(workers)
            self._random.shuffle(workers)
            for process, journal in workers:
                time.sleep(self._random.uniform(0, LONGEST_WORK_S / len(workers)))
                assert process.is_alive(), f"{journal.name} has failed"
                process.kill()
        finally:
            for process, _ in workers:
                process.kill()
                process.join()
        yield from (journal for _, journal in workers)

    def _start(self, work: Callable[..., None], i: int) -> tuple[Any, Path]:
        journal = self._root.with_name(f"{work.__name__}-{self._number}-{i}")
        first = (self._number * MOST_AT_WORK + i) * 1000
        arguments = (self._root, journal, "ab"[i] if work is write else "", first)
        process = context().Process(target=work, args=arguments, daemon=True)
        process.start()
        return process, journal


def check_replica(root: Path) -> None:
    """What the copy holds is sound and equal; cut off, it goes on."""
    replica = replica_of(root)
    if not replica.exists():
        return
    with Store(root, threads=1) as store, store.replica_at(replica) as copied:
        theirs, ours = numbers_in(copied), numbers_in(store)
        assert all(ours.get(version, number) == number for version, number in theirs.items())
        assert store.sync(copied).conflicts == []
        assert ours.keys() <= numbers_in(copied).keys()
        assert copied.verify()


def kill(tmp_path: Path, rounds: int, crews: list[Crew]) -> None:
    root = tmp_path / "store"
    promised: dict[tuple[str, int], int] = {}
    with Store(root, threads=1, locations=locations_of(root) if crews is EMPTYING else ()):
        pass
    for number in range(1, rounds + 1):
        noted = promises(Round(root, number, crews).run())
        newer = {name for name, _ in noted}
        promised = {version: data for version, data in promised.items() if version[0] not in newer} | noted
        check_afterwards(root, promised)
        check_replica(root)


@pytest.mark.parametrize(("crews", "rounds"), [(CREWS, 12), (EMPTYING, 6)], ids=["all", "emptying"])
def test_a_few_kills(tmp_path: Path, crews: list[Crew], rounds: int) -> None:
    kill(tmp_path, rounds, crews)


@pytest.mark.torture
@pytest.mark.parametrize("crews", [CREWS, EMPTYING], ids=["all", "emptying"])
def test_many_kills(tmp_path: Path, crews: list[Crew]) -> None:
    kill(tmp_path, 300, crews)
