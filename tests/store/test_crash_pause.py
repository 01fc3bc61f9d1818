"""Two writers and a collector with a clock that is told: whoever pauses past its lease hears of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from crash_world import check_nothing_is_left, check_sound, put, settle
from faulty_backend import FaultyBackend
from thinwire.errors import StoreError
from thinwire.store.leases import GRACE_S, Lease
from thinwire.store.store import Store

ENDLESS = 10**9
PAUSE_S = 3 * GRACE_S


class World:
    """A store with versions that share chunks, some of them garbage, and those who work on it.

    With `emptying` all packs lie in another location, which collectors empty.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, emptying: bool = False) -> None:
        self.backend = FaultyBackend()
        self.location = FaultyBackend() if emptying else None
        defaults = Lease.open.__func__.__kwdefaults__  # type: ignore[attr-defined]
        monkeypatch.setitem(defaults, "clock", lambda: self.backend.now)
        self.promised: dict[tuple[str, int], int] = {}
        with self.open() as store:
            if self.location:
                store.add_location(store.backend.home, weight=0)
            for name, number in [("shared", 0), ("old", 1), ("old", 2)]:
                self.promised[name, put(store, name, number)] = number
            store.delete("old@1")
            del self.promised["old", 1]
        assert not self.location or len(self.location.paths("packs")) == 3

    def open(self, step: int = ENDLESS, pause: Callable[[], None] = lambda: None) -> Store:
        """The store, for one whose operation number `step` waits until `pause` has returned."""
        locations = [self.location] if self.location else []
        return Store(_Pausing(self.backend, step, pause), threads=1, locations=locations)

    def collect(self, store: Store) -> None:
        """Collect garbage, in the course of emptying the location if there is one."""
        if self.location:
            store.add_location(store.backend.home)
            store.empty_location(str(self.location), wait_s=0)
        else:
            store.gc(wait_s=0)

    def put(self, store: Store, name: str, number: int) -> None:
        self.promised[name, put(store, name, number)] = number

    def delete(self, store: Store, name: str) -> None:
        """Delete all versions of a name, if there are any."""
        for ref in store.versions(name):
            self.promised.pop((name, ref.version), None)
            store.delete(f"{name}@{ref.version}")

    def check(self) -> None:
        with self.open() as store:
            check_sound(store, self.promised)
            self.backend.now += PAUSE_S
            settle(store)
            check_nothing_is_left(store)
            check_sound(store, self.promised)


class _Pausing(FaultyBackend):
    """Another's objects; one operation waits."""

    def __init__(self, backend: FaultyBackend, step: int, pause: Callable[[], None]) -> None:
        super().__init__()
        self.objects, self._shared = backend.objects, backend
        self._steps = itertools.count(1)
        self._step, self._pause = step, pause
        self.before = self._count
        self.paused = False

    @property
    def now(self) -> float:  # type: ignore[override]
        return self._shared.now

    @now.setter
    def now(self, value: float) -> None:
        pass

    def _count(self, operation: str, path: str) -> None:
        if next(self._steps) == self._step:
            self.paused = True
            self._pause()


def others(world: World, pause_s: float, collector_step: int) -> None:
    """What goes on while a writer pauses: what it may build on is deleted and collected, and a second writer,
    which begins at a step of the collector's, puts the same data."""
    with world.open() as store:
        world.delete(store, "old")
        world.delete(store, "shared")
    world.backend.now += pause_s

    def second() -> None:
        with world.open() as store:
            world.put(store, "second", 1)
            world.put(store, "paused", 9)

    with world.open(collector_step, second) as store:
        world.collect(store)
        if not store.backend.home.paused:  # type: ignore[attr-defined]
            second()
        world.collect(store)


def pause_writer(world: World, number: int, pause_s: float, step: int, collector_step: int) -> bool:
    """A writer of data of that number pauses at one of its steps; whether it has so many."""
    told = ""
    with world.open(step, lambda: others(world, pause_s, collector_step)) as store:
        try:
            version = put(store, "paused", number)
            world.promised["paused", version] = number
        except StoreError as error:
            told = str(error)
        paused = store.backend.home.paused  # type: ignore[attr-defined]
    try:
        assert not told or (pause_s == PAUSE_S and "revoked" in told), told
        with world.open() as store:
            counting = {ref.version for ref in store.versions("paused")}
        assert counting == {version for name, version in world.promised if name == "paused"}
        world.check()
    except BaseException as violation:
        raise AssertionError(f"step {step} of the writer, {collector_step} of the collector") from violation
    return paused


def steps(world: World, number: int) -> tuple[int, int]:
    """How many steps the writer has, and the collector."""
    with world.open() as store:
        put(store, "paused", number)
        writer = next(store.backend.home._steps)  # type: ignore[attr-defined]
    with world.open() as store:
        world.delete(store, "old")
        world.collect(store)
        return writer, next(store.backend.home._steps)  # type: ignore[attr-defined]


KNOWN, PARTLY_NEW = 1, 6


@pytest.mark.parametrize("number", [KNOWN, PARTLY_NEW], ids=["known", "partly-new"])
@pytest.mark.parametrize("pause_s", [GRACE_S / 2, PAUSE_S], ids=["short", "long"])
@pytest.mark.parametrize(
    "every_pair", [False, pytest.param(True, marks=pytest.mark.torture)], ids=["a-step", "every-step"]
)
@pytest.mark.parametrize("emptying", [False, True], ids=["collecting", "emptying"])
def test_a_writer_that_pauses_at_any_step_of_a_collector(
    monkeypatch: pytest.MonkeyPatch, number: int, pause_s: float, every_pair: bool, emptying: bool
) -> None:
    def world() -> World:
        return World(monkeypatch, emptying)

    writer, collector = steps(world(), number)
    assert writer > 15
    assert collector > 40
    for step in range(1, writer):
        for other in range(1, collector) if every_pair else [1 + step * 7 % collector]:
            assert pause_writer(world(), number, pause_s, step, other)
    assert not pause_writer(world(), number, pause_s, ENDLESS, 1)


@pytest.mark.parametrize("emptying", [False, True], ids=["collecting", "emptying"])
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.torture)])
def test_a_collector_that_pauses_at_any_step(
    monkeypatch: pytest.MonkeyPatch, stride: int, emptying: bool
) -> None:
    """While it is away for days, another collects, and writers put what the first one found to be garbage."""
    for step in itertools.count(1, stride):
        world = World(monkeypatch, emptying)

        def meanwhile(world: World = world) -> None:
            world.backend.now += PAUSE_S
            with world.open() as store:
                world.put(store, "new", 1)
                world.collect(store)
                world.put(store, "newer", 2)
                world.backend.now += PAUSE_S

        with world.open() as store:
            world.delete(store, "old")
        with world.open(step, meanwhile) as store:
            world.collect(store)
            paused = store.backend.home.paused  # type: ignore[attr-defined]
        try:
            world.check()
        except BaseException as violation:
            raise AssertionError(f"step {step}") from violation
        if not paused:
            break
    assert step > 40
