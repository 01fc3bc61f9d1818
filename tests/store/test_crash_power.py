"""Power cuts after every call, whatever the disk has done by then of what was not synced."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crash_disk import Recorder, power_cuts
from crash_world import check_nothing_is_left, check_sound, numbers_in, put, settle
from faulty_backend import FaultyBackend
from thinwire.errors import NotFound
from thinwire.store.store import Store

Promise = tuple[str, int, int | None]  # name, version, number of its data or None: it may be gone


def work(root: Path, recorder: Recorder) -> None:
    """Puts, deletions, collections that rewrite and delete packs, copies into the store."""
    with Store(root, threads=1) as store:
        for number in range(3):
            recorder.told(("a", put(store, "a", number), number))
        recorder.told(("b", put(store, "b", 3), 3))
        for version in (1, 2):
            recorder.told(("a", version, None))
            store.delete(f"a@{version}")
        store.gc(wait_s=0)
        recorder.told(("b", 1, None))
        store.delete("b")
        recorder.told(("b", put(store, "b", 1), 1))
        with Store(FaultyBackend(), threads=1) as other:
            put(other, "c", 0)
            put(other, "c", 4)
            other.sync(store)
            recorder.told(("c", 1, 0))
            recorder.told(("c", 2, 4))
        store.gc(wait_s=0)
        recorder.told(("a", put(store, "a", 5), 5))


def standing(promised: list[Promise]) -> dict[tuple[str, int], int]:
    """The versions that must be there."""
    newest = {(name, version): number for name, version, number in promised}
    return {version: number for version, number in newest.items() if number is not None}


def check(backend: FaultyBackend, promised: list[Promise]) -> None:
    """The store opens, all that was acknowledged restores, and it is as good as new afterwards."""
    backend.now = 48 * 3600.0
    wanted = standing(promised)
    try:
        store = Store(backend, threads=1, create=False)
    except NotFound:
        assert not promised
        return
    with store:
        check_sound(store, wanted)
        put(store, "after", 7)
        settle(store)
        check_nothing_is_left(store)
        found = numbers_in(store)
        assert wanted.items() <= found.items()


def cut(tmp_path: Path, program: Callable[[Path, Recorder], None], cuts: int) -> int:
    """Cut the power at every moment of a program; how many different disks that has left."""
    root = tmp_path / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch, root)
        program(root, recorder)
    count = 0
    for backend, promised in power_cuts(recorder.calls, root, cuts, random.Random(0)):
        count += 1
        check(backend, promised)
    return count


def test_power_cuts(tmp_path: Path) -> None:
    assert cut(tmp_path, work, 1) > 80


def work_together(root: Path, recorder: Recorder) -> None:
    """Two writers, who delete as well, and a collector at the same time."""

    def write(name: str, first: int) -> None:
        with Store(root, threads=2) as store:
            for number in range(first, first + 4):
                version = put(store, name, number)
                recorder.told((name, version, number))
                if version > 1:
                    recorder.told((name, version - 1, None))
                    store.delete(f"{name}@{version - 1}")

    with Store(root, threads=1) as store, ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, name, first) for name, first in (("a", 0), ("b", 10))]
        while not all(writer.done() for writer in writers):
            store.gc(wait_s=0.1)
        for writer in writers:
            writer.result()
        store.gc(wait_s=0)


@pytest.mark.torture
@pytest.mark.parametrize("again", range(3))
def test_power_cuts_while_several_are_at_work(tmp_path: Path, again: int) -> None:
    assert cut(tmp_path, work_together, 5) > 100
