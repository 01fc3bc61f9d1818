"""Processes that work on a store until they are killed, and tell what was promised to them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from crash_world import put
from thinwire.errors import InvalidArgument, StoreError
from thinwire.store.store import Store

KEPT = 2  # versions of a name that its writer does not delete
LONGEST_START_S = 60.0


def write(root: Path, journal: Path, name: str, first: int) -> None:
    """Put version after version, delete the old ones, and note in the journal what a put has returned."""
    with Store(root, threads=1) as store, _appending(journal) as file:
        for number in range(first, first + 1_000_000):
            version = put(store, name, number)
            os.write(file, b"%s %d %d\n" % (name.encode(), version, number))
            for ref in store.versions(name)[:-KEPT]:
                store.delete(f"{name}@{ref.version}")


def collect(root: Path, journal: Path, name: str, first: int) -> None:
    """Collect garbage again and again."""
    with Store(root, threads=1) as store, _appending(journal):
        while True:
            with contextlib.suppress(StoreError):  # another collector, killed in an earlier round
                store.gc(wait_s=0.02)
            time.sleep(0.01)


def copy(root: Path, journal: Path, name: str, first: int) -> None:
    """Copy the store to its replica again and again."""
    with Store(root, threads=1) as store, _appending(journal):
        while True:
            store.sync(replica_of(root))
            time.sleep(0.01)


def empty(root: Path, journal: Path, name: str, first: int) -> None:
    """Empty every location in turn, the store's own place too, and let it take packs again."""
    places = [root, *locations_of(root)]
    with Store(root, threads=1) as store, _appending(journal):
        while True:
            for place in places[first % len(places) :] + places[: first % len(places)]:
                # another collector, one that was killed, or one that empties the last of the others
                with contextlib.suppress(StoreError, InvalidArgument):
                    store.empty_location(str(place), wait_s=0.02)
                store.add_location(place)
            time.sleep(0.01)


def locations_of(root: Path) -> list[Path]:
    """Where else a store's packs may lie, if its test wants that."""
    return [root.with_name(f"{root.name}-{number}") for number in range(2)]


def replica_of(root: Path) -> Path:
    return root.with_name(root.name + "-replica")


def promises(journals: Iterator[Path]) -> dict[tuple[str, int], int]:
    """The newest version of every name that a put has returned, and the number of its data."""
    newest: dict[str, tuple[int, int]] = {}
    for journal in journals:
        for line in journal.read_text().splitlines():
            name, version, number = line.split()
            newest[name] = max(newest.get(name, (0, 0)), (int(version), int(number)))
    return {(name, version): number for name, (version, number) in newest.items()}


def context() -> multiprocessing.context.ForkServerContext:
    """Where processes come from that start at once."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["__main__", "thinwire.store.store", "zstandard"])
    return made


def wait_until_at_work(workers: list[tuple[BaseProcess, Path]]) -> None:
    """Wait until each has opened its store."""
    end = time.monotonic() + LONGEST_START_S
    while not all(journal.exists() for _, journal in workers):
        assert all(process.is_alive() for process, _ in workers), "a process has failed"
        assert time.monotonic() < end
        time.sleep(0.002)


@contextlib.contextmanager
def _appending(journal: Path) -> Iterator[int]:
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        yield file
    finally:
        os.close(file)
