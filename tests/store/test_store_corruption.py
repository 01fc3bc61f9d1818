"""Every kind of byte of every object flipped, cut off or gone: found, named, nothing else harmed, mended."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from faulty_backend import FaultyBackend
from thinwire.errors import CorruptChunk, NotFound, StoreError
from thinwire.store.backend import failure
from thinwire.store.maintenance import Report
from thinwire.store.pack import HEADER_BYTES
from thinwire.store.store import Store

KEY = b"0123456789abcdef"
KINDS = ("packs", "index", "manifests", "refs", "ends")
ENDS = np.array([100, 2000, 2001, 5000], np.int64)


def content(name: str) -> bytes:
    """Four chunks: random, text, floats, and one that all names share."""
    rng = np.random.default_rng(len(name))
    floats = rng.normal(size=500).astype(np.float32).tobytes()
    return (rng.bytes(100) + name.encode() * 2000)[:2000] + b"s" + (floats + b"shared" * 500)[:2999]


NAMES = ("a", "bb", "ccc")


class World:
    """A small store in memory, and an untouched copy of it as a replica."""

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self.sound = FaultyBackend()
        store = Store(self.sound, key=key, threads=1)
        for name in NAMES:
            with store.writer(name) as writer:
                writer.commit({"kind": "bytes"}, writer.add(content(name), ENDS))
        self.replica = Store.__new__(Store)
        self.replica._begin(self.sound.copy(), store.config, store.catalog.keys, 1)
        store.close()

    def open(self, backend: FaultyBackend, *, mended: bool = False) -> Store:
        return Store(
            backend, key=self.key, create=False, threads=1, replicas=[self.replica] if mended else []
        )


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> World:
    return World(KEY if request.param == "encrypted" else None)


def flips(data: bytes) -> Iterator[bytes]:
    """The object with one bit flipped: of every byte of a small object and of all headers, else of some."""
    rng = np.random.default_rng(len(data))
    places = set(range(min(len(data), 130))) | set(rng.integers(0, len(data), 40).tolist()) | {len(data) - 1}
    for at in sorted(places):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def truncations(data: bytes) -> Iterator[bytes | None]:
    yield None
    for end in sorted({0, 1, 63, 64, 65, 128, len(data) // 2, len(data) - 1}):
        if end < len(data):
            yield data[:end]


def readable(store: Store) -> dict[str, bool]:
    """Which names still give what was put; giving anything else is the one thing that must never be."""
    found = {}
    for name in NAMES:
        try:
            assert store.get(name) == content(name)
            found[name] = True
        except (CorruptChunk, NotFound, StoreError):
            found[name] = False
    return found


def check(world: World, path: str, data: bytes | None) -> None:
    backend = world.sound.copy(path, data)
    with world.open(backend) as store:
        report = store.verify()
        found = readable(store)
        hit = {name.name for name in report.hits}
        assert hit == {name for name in NAMES if not found[name]}, (path, report)
        meaningless = all(found.values())  # a spare bit of a zstd frame, a version's time
        assert report.damage or meaningless, path
        check_ranges(store, report)
    with world.open(backend, mended=True) as store:
        assert all(readable(store).values()) or path.startswith(("manifests/", "refs/", "ends/"))
        assert store.repair(), path
        assert store.verify(), path
        assert all(readable(store).values()), path


def check_ranges(store: Store, report: Report) -> None:
    """Bytes outside the reported ranges can be read."""
    for name in {hit.name for hit in report.hits if hit.end is not None}:
        reader = store.reader(name)
        ends = np.cumsum(reader.chunks["size"]).tolist()
        lost = {(hit.begin, hit.end) for hit in report.hits if hit.name == name}
        begin = 0
        for i, end in enumerate(ends):
            out = bytearray(end - begin)
            if (begin, end) in lost:
                with pytest.raises(StoreError, match=f"bytes {begin} to {end} of {name}@1"):
                    reader.read_into([((i, i + 1), out)])
            else:
                reader.read_into([((i, i + 1), out)])
                assert out == content(name)[begin:end]
            begin = end


@pytest.mark.parametrize("change", [flips, truncations])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_named_and_mended(
    world: World, kind: str, change: Callable[[bytes], Iterator[bytes | None]]
) -> None:
    path = world.sound.paths(kind)[1 if kind != "ends" else 0]
    for data in change(world.sound.read(path)):
        if data is not None or kind not in (
            "refs",
            "ends",
        ):  # a version that is gone was deleted, for all we know
            check(world, path, data)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("kind", ["manifests", "refs"])
def test_a_repair_that_is_killed_at_any_step_is_done_by_the_next(world: World, kind: str) -> None:
    """But for the moment between a version that is made anew, its ref being lost, and the commit of it."""
    path = world.sound.paths(kind)[0]
    lost, step, killed = 0, 0, True
    while killed:
        step += 1
        backend = world.sound.copy(path, b"damaged")
        killed = False
        count = iter(range(1, 10**6))

        def kill(operation: str, path: str, step: int = step, count: Iterator[int] = count) -> None:
            nonlocal killed
            if operation != "created" and next(count) >= step:
                killed = True
                raise Killed

        with world.open(backend, mended=True) as store:
            backend.before = kill
            with contextlib.suppress(Killed):
                store.repair()
            backend.before = lambda operation, path: None
        backend.now += 48 * 3600.0
        with world.open(backend, mended=True) as store:
            store.repair()
            lost += not all(readable(store).values())
            assert store.verify()
    assert step > 20
    assert lost <= (0 if kind == "manifests" else 1)


def test_without_a_replica_the_rest_survives_repair(world: World) -> None:
    path = world.sound.paths("packs")[0]
    for data in (None, world.sound.read(path)[:300], bytes(len(world.sound.read(path)))):
        with world.open(world.sound.copy(path, data)) as store:
            before = readable(store)
            report = store.repair()
            assert {hit.name for hit in report.hits} == {name for name in NAMES if not before[name]}
            assert readable(store) == before
            assert not all(before.values())


def test_a_pack_inside_a_pack_is_data() -> None:
    """Its records are not taken for those of the pack around it, whose header is damaged."""
    inner, outer = FaultyBackend(), FaultyBackend()
    with Store(inner, threads=1) as store:
        store.put("x", np.random.default_rng(1).bytes(5000))
    data = inner.read(inner.paths("packs")[0])
    with Store(outer, threads=1) as store:
        with store.writer("a") as writer:
            writer.commit({"kind": "bytes"}, writer.add(data, np.array([len(data)])))
        [path] = outer.paths("packs")
        damaged = bytearray(outer.read(path))
        damaged[HEADER_BYTES] ^= 1
    with Store(outer.copy(path, bytes(damaged)), threads=1) as store:
        assert store.repair()
        assert store.verify()
        assert store.get("a") == data


def test_a_damaged_pack_that_no_index_names_is_read_once(world: World) -> None:
    path, orphan = world.sound.paths("packs")[0], f"packs/ab/ab{62 * '0'}"
    backend = world.sound.copy(path, None)
    backend.objects[orphan] = (b"damaged", 0.0)
    with world.open(backend) as store:
        assert len([damage for damage in store.verify().damage if damage.what.startswith("chunk")]) > 1
        assert backend.reads.count(orphan) == 1


def test_a_pack_that_could_not_be_read_for_a_while_is_read_again(world: World) -> None:
    backend = world.sound.copy()
    for path in world.sound.paths("index"):
        del backend.objects[path]
    disturbed = True

    def disturb(operation: str, path: str) -> None:
        if disturbed and operation == "read" and path.startswith("packs/"):
            raise StoreError(f"reading {path}: the connection was reset")

    backend.before = disturb
    with world.open(backend) as store:
        with pytest.raises(StoreError, match="connection was reset") as caught:
            store.get("a")
        assert not isinstance(caught.value, (NotFound, CorruptChunk))
        assert "connection was reset" in str(store.verify().damage[0])
        disturbed = False
        assert all(readable(store).values())


@pytest.mark.parametrize("deep", [True, False])
def test_padding_that_is_cut_off_or_added_is_damage_that_hits_nothing(world: World, deep: bool) -> None:
    path = world.sound.paths("packs")[0]
    data = world.sound.read(path)
    for changed in (data[:-1], data + b"\0"):
        with world.open(world.sound.copy(path, changed)) as store:
            [damage] = store.verify(deep=deep).damage
            assert (damage.what, damage.hits) == (path, [])
            assert f"it has {len(changed)} bytes, not {len(data)}" in damage.reason
            assert all(readable(store).values())
            assert store.repair()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_store_that_cannot_be_written_is_verified(
    world: World, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    path = world.sound.paths("packs")[0]
    backend = world.sound.copy(path, world.sound.read(path)[:-100])

    def refuse(operation: str, path: str) -> None:
        if operation in ("create", "delete"):
            raise failure(OSError(code, os.strerror(code)), "writing", path)

    backend.before = refuse
    with world.open(backend) as store:
        damaged = store.verify()
        assert not damaged
        assert "no lease" in caplog.text
        backend.before = lambda operation, path: None
        assert str(store.verify()) == str(damaged)


def test_an_index_that_is_gone_is_made_again(world: World) -> None:
    backend = world.sound.copy()
    for path in world.sound.paths("index"):
        del backend.objects[path]
    with world.open(backend) as store:
        assert store.repair()
        assert all(readable(store).values())
        assert len(store.catalog.segment_paths()) == 1
        assert len(store.catalog.index.packs) == len(world.sound.paths("packs"))


def test_a_manifest_of_another_version_does_not_pass(world: World) -> None:
    one, other, _ = world.sound.paths("manifests")
    with world.open(world.sound.copy(one, world.sound.read(other))) as store:
        assert len(store.verify().damage) == 1


def test_a_collector_deletes_nothing_while_something_cannot_be_read(world: World) -> None:
    for kind in ("manifests", "index"):
        path = world.sound.paths(kind)[0]
        backend = world.sound.copy(path, world.sound.read(path)[:-1])
        with world.open(backend) as store:
            store.put("d", b"x")
            packs = [entry.path for entry in backend.list("packs/")]
            with pytest.raises(CorruptChunk):
                store.gc(wait_s=0)
            assert [entry.path for entry in backend.list("packs/")] == packs


def test_a_collector_that_was_refused_leaves_the_store_as_it_was(world: World) -> None:
    path = world.sound.paths("manifests")[0]
    backend = world.sound.copy(path, b"")
    with world.open(backend, mended=True) as store:
        with pytest.raises(CorruptChunk):
            store.gc(wait_s=0)
        assert store.repair()
        store.gc(wait_s=0)
        assert store.verify()
        assert all(readable(store).values())


def test_a_disk_that_fails_leaves_the_last_version(world: World) -> None:
    """Every single operation of a put fails once: what was there stays, and the next put works."""
    step, failed = 0, True
    while failed or step < 5:
        step += 1
        backend = world.sound.copy()
        failed = False
        count = iter(range(1, 10**6))

        def fail(operation: str, path: str, step: int = step, count: Iterator[int] = count) -> None:
            nonlocal failed
            if next(count) == step:
                failed = True
                raise StoreError(f"{operation} {path}: no space is left")

        with world.open(backend) as store:
            backend.before = fail
            with contextlib.suppress(StoreError):
                store.put("a", content("a") + b"new")
            backend.before = lambda operation, path: None
            assert store.get("a") in (content("a"), content("a") + b"new")
            assert store.verify()
            store.put("a", b"newer")
            assert store.get("a") == b"newer"
    assert step > 15
