"""Every byte of every object flipped, without a replica: what is not hit reads, and nothing is made worse."""

from __future__ import annotations

import random

import pytest

from crash_world import attempt, check_nothing_is_left, content, numbers_in, put
from faulty_backend import FaultyBackend
from thinwire.errors import StoreError
from thinwire.store import leases
from thinwire.store.leases import Lease
from thinwire.store.maintenance import Report
from thinwire.store.store import Store

KEY = b"0123456789abcdef"
LATER_S = 48 * 3600.0
NAMES = {"a": 0, "b": 1}
KINDS = ("store.json", "packs/", "index/", "manifests/", "refs/", "ends/", "leases/", "condemned/")
NEEDED_TO_COLLECT = ("index/", "manifests/", "refs/", "ends/", "condemned/")


class World:
    """A store with an object of every kind: somebody at work, a collector that died, a deleted version."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self.sound = FaultyBackend()
        with self.open(self.sound) as store:
            put(store, "a", 2)
            for name, number in NAMES.items():
                put(store, name, number)
            store.delete("a@1")
            Lease.open(self.sound, background=False)
            leases.condemn(self.sound, "0" * 32, list(leases.present_packs(self.sound))[:1])
        assert {path for path in self.sound.objects if not path.startswith(KINDS)} == set()

    def open(self, backend: FaultyBackend) -> Store:
        return Store(backend, key=self._key, threads=1)

    def flipped(self, path: str, at: int, bit: int) -> FaultyBackend:
        data = bytearray(self.sound.read(path))
        data[at] ^= 1 << bit
        return self.sound.copy(path, bytes(data))


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def world(request: pytest.FixtureRequest) -> World:
    return World(KEY if request.param == "encrypted" else None)


def readable(store: Store) -> set[str]:
    """The names whose newest version gives what was put. That it gives anything else must never be."""
    found = set()
    for name, number in NAMES.items():
        data: list[bytes] = []
        if attempt(lambda name=name, data=data: data.append(store.get(name))) is None:
            assert data == [content(number)], name
            found.add(name)
    return found


def check(world: World, path: str, backend: FaultyBackend) -> None:
    """With one bit flipped: found where it matters, kept to what it hits, and no way back is cut off."""
    try:
        store = world.open(backend)
    except StoreError:
        assert path == "store.json"  # which is small, and every replica has it
        return
    with store:
        found = readable(store)
        report = store.verify()
        assert {hit.name for hit in report.hits} == NAMES.keys() - found, (report, found)
        backend.now += LATER_S
        refused = attempt(lambda: store.gc(wait_s=0))
        assert refused is None or path.startswith(NEEDED_TO_COLLECT), refused
        assert readable(store) == found
        if path.startswith(leases.CONDEMNED):
            check_condemned(store, path, report)
        put(store, "after", 3)
        assert numbers_in(store, ["after"]) == {("after", 1): 3}
        store.repair()
        assert readable(store) >= found


def check_condemned(store: Store, path: str, report: Report) -> None:
    """What a collector means to delete is unknown: nobody writes until it was done as the error says."""
    assert [damage.what for damage in report.damage] == [path]
    error = attempt(lambda: put(store, "after", 3))
    assert "delete it when no collector is at work" in str(error)
    store.backend.delete(path)


def flip(world: World, kind: str, most: int) -> None:
    chance = random.Random(kind)
    paths = sorted(path for path in world.sound.objects if path.startswith(kind) and world.sound.read(path))
    assert paths
    for path in paths:
        size = len(world.sound.read(path))
        for at in sorted(chance.sample(range(size), min(size, max(1, most // len(paths))))):
            backend = world.flipped(path, at, chance.randrange(8))
            try:
                check(world, path, backend)
            except BaseException as violation:
                raise AssertionError(f"byte {at} of {path}") from violation


@pytest.mark.parametrize("kind", KINDS)
def test_some_bytes_flipped(world: World, kind: str) -> None:
    flip(world, kind, 8)


@pytest.mark.torture
@pytest.mark.parametrize("kind", KINDS)
def test_many_bytes_flipped(world: World, kind: str) -> None:
    flip(world, kind, 300)


def test_without_damage_nothing_is_left(world: World) -> None:
    backend = world.sound.copy()
    backend.now += LATER_S
    with world.open(backend) as store:
        store.gc(wait_s=0)
        store.gc(wait_s=0)
        assert readable(store) == set(NAMES)
        for path in backend.paths("condemned"):
            backend.delete(path)
        store.gc(wait_s=0)
        check_nothing_is_left(store)
