"""A disk that is full: what fails takes no space, nothing is lost, and a collection still frees some."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import numpy as np
import pytest

from faulty_backend import FaultyBackend
from store_data import random_bytes
from thinwire.errors import StoreError
from thinwire.store import collecting, leases, pack
from thinwire.store.backend import Buffer, failure
from thinwire.store.store import Store

ENOUGH = 750  # bytes for a collection's lease and list of packs, but not for an index
KEPT = [random_bytes(2000, seed) for seed in range(4)]


class SmallDisk(FaultyBackend):
    """There are `room` bytes left; endless while it is None."""

    room: int | None = None

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        if self.room is not None and size > self.room:
            raise failure(OSError(errno.ENOSPC, "No space left on device"), "writing", path)
        super().create(path, parts)
        if self.room is not None:
            self.room -= size

    def delete(self, path: str) -> None:
        size = len(self.objects[path][0]) if path in self.objects else 0
        super().delete(path)
        if self.room is not None:
            self.room += size


def put(store: Store, name: str, *chunks: bytes) -> None:
    with store.writer(name) as writer:
        ends = np.cumsum([len(chunk) for chunk in chunks])
        writer.commit({"kind": "bytes"}, writer.add(b"".join(chunks), ends))


def partly_garbage() -> SmallDisk:
    """A store of packs that are mostly garbage, and of packs that are nothing else."""
    disk = SmallDisk()
    with Store(disk, threads=1) as store:
        for i, kept in enumerate(KEPT):
            put(store, f"mixed{i}", kept, random_bytes(20_000, 10 + i))
            put(store, f"kept{i}", kept)
            put(store, f"garbage{i}", random_bytes(5000, 20 + i))
        for i in range(len(KEPT)):
            store.delete(f"mixed{i}")
            store.delete(f"garbage{i}")
    return disk


def is_all_there(store: Store) -> bool:
    return all(store.get(f"kept{i}") == kept for i, kept in enumerate(KEPT))


@pytest.mark.parametrize("room", [*range(0, 3000, 100), *range(3000, 14_000, 500), 100_000])
def test_a_collection_frees_what_it_can(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_MOST_SEGMENTS", 0)  # a new index each time
    disk = partly_garbage()
    disk.room = room
    with Store(disk, threads=1) as store:
        for _ in range(2):
            try:
                store.gc(wait_s=0)
            except StoreError:
                assert disk.room < ENOUGH
            assert not leases.open_leases(disk)
        assert disk.room < ENOUGH or len(disk.paths("packs")) <= len(KEPT)
        assert is_all_there(store)
        disk.room = None
        store.gc(wait_s=0)
        assert is_all_there(store)
        assert store.verify()
        needed = {chunk.tobytes() for name in store.ls() for chunk in store.reader(name).chunks["id"]}
        assert needed == {chunk.tobytes() for chunk in store.catalog.refresh().entries["id"]}


def test_a_collector_without_room_for_its_end_keeps_nobody_waiting() -> None:
    disk = partly_garbage()
    lease = leases.Lease.open(disk, leases.COLLECTOR)
    [heartbeat] = [path for path in disk.paths("leases") if lease.id in path]
    lease.abandon()
    with Store(disk, threads=1) as store:
        disk.room = len(disk.read(heartbeat)) + 1
        with pytest.raises(StoreError, match="no space is left"):
            store.gc(wait_s=0)
        assert not leases.open_leases(disk)
        disk.room = None
        assert store.gc(wait_s=0).packs


def test_what_a_put_wrote_is_gone_when_it_finds_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "TARGET_BYTES", 64 << 10)
    disk = SmallDisk()
    with Store(disk, threads=1) as store:
        store.put("a", b"a")
        before = {kind: disk.paths(kind) for kind in ("packs", "index", "manifests", "refs")}
        disk.room = 3 << 20
        with pytest.raises(StoreError, match="no space is left"):
            store.put("b", random_bytes(8 << 20))
        assert {kind: disk.paths(kind) for kind in before} == before
        assert not leases.open_leases(disk)


def test_what_a_put_has_published_stays_when_it_finds_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "TARGET_BYTES", 64 << 10)
    disk = SmallDisk()
    with Store(disk, threads=1) as store:
        data = random_bytes(4 << 20)

        def write() -> None:
            with store.writer("a") as writer:
                writer.add(data[: 1 << 20])
                writer.flush()
                disk.room = 1 << 20
                writer.add(data)
                writer.flush()

        with pytest.raises(StoreError, match="no space is left"):
            write()
        named = set(store.catalog.refresh().row_of)
        assert named == leases.present_packs(disk).keys()
        assert store.verify()
