"""Packs in several places: where they go, how they are found, and what happens when a place is missing."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash_world import check_nothing_is_left, check_sound, content, put, settle
from faulty_backend import FaultyBackend
from store_data import random_bytes
from thinwire.errors import CorruptChunk, InvalidArgument, NotFound, StoreError
from thinwire.store.locations import MARKER
from thinwire.store.store import Store

NUMBERS = range(8)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Versions 1 to 8 of "a", their packs spread over the store's own place and two others."""
    with Store(tmp_path / "home", threads=1, locations=[tmp_path / "one", tmp_path / "two"]) as store:
        for number in NUMBERS:
            put(store, "a", number)
        while not all(found.packs for found in store.locations()):
            put(store, "a", len(store.versions("a")))
        yield store


def promised(store: Store) -> dict[tuple[str, int], int]:
    return {("a", ref.version): ref.version - 1 for ref in store.versions("a")}


def of_backends(*others: FaultyBackend) -> Store:
    return Store(FaultyBackend(), threads=1, locations=others)


def place_packs(store: Store, count: int) -> dict[str, int]:
    """Create that many objects; where each of them went."""
    for _ in range(count):
        name = secrets.token_hex(32)
        store.backend.create(f"packs/{name[:2]}/{name}", [b"pack"])
    return {entry.path: i for i, found in enumerate(store.locations()) for entry in found.packs}


def test_packs_are_spread_by_weight() -> None:
    light, heavy = FaultyBackend(), FaultyBackend()
    with of_backends(light) as store:
        store.add_location(light, weight=0.5)
        store.add_location(heavy, weight=2.5)
        where = list(place_packs(store, 2000).values())
        shares = [where.count(i) / len(where) for i in range(3)]
        assert shares == pytest.approx([1 / 4, 1 / 8, 5 / 8], abs=0.05)


def test_a_location_that_is_added_takes_its_share_and_moves_nothing() -> None:
    with of_backends(FaultyBackend()) as store:
        before = place_packs(store, 300)
        store.add_location(FaultyBackend())
        now = place_packs(store, 300)
        assert {path: now[path] for path in before} == before
        assert 60 < list(now.values()).count(2) < 140
        assert all(store.backend.read(path) == b"pack" for path in now)
        assert all(store.backend.exists(path) and store.backend.age(path) >= 0 for path in now)


def test_who_has_the_store_open_learns_of_a_location(tmp_path: Path) -> None:
    with Store(tmp_path / "home", threads=1) as early, Store(tmp_path / "home", threads=1) as other:
        put(early, "a", 0)
        other.add_location(tmp_path / "one")
        other.add_location(tmp_path / "home", weight=0)
        put(other, "a", 1)
        assert [len(found.packs) for found in other.locations()] == [1, 1]
        check_sound(early, promised(early))
        assert len(promised(early)) == 2
        put(early, "a", 2)
        assert [len(found.packs) for found in early.locations()] == [1, 2]


def test_all_that_looks_at_a_store_looks_into_its_locations(store: Store, tmp_path: Path) -> None:
    check_sound(store, promised(store))
    packs = [entry for found in store.locations() for entry in found.packs]
    assert store.stats().packs == len(packs) == len(list(store.backend.list("packs/")))
    assert store.stats().stored == sum(entry.size for entry in packs)
    for entry in list(store.backend.list("index/")):
        store.backend.delete(entry.path)
    with Store(tmp_path / "home", create=False, threads=1) as again:
        assert again.repair()
        check_sound(again, promised(again))
        again.sync(tmp_path / "copy")
        with again.replica_at(tmp_path / "copy") as copied:
            check_sound(copied, promised(again))
            assert len(copied.locations()) == 1
        for ref in again.versions("a")[:-1]:
            again.delete(f"a@{ref.version}")
        settle(again)
        check_nothing_is_left(again)
        check_sound(again, promised(again))


def test_a_location_can_be_emptied(store: Store, tmp_path: Path) -> None:
    url = str(tmp_path / "one")
    with Store(tmp_path / "home", create=False, threads=1) as other:
        check_sound(other, promised(other))
        held = [len(found.packs) for found in store.locations()]
        done = store.empty_location(url)
        assert done.packs == held[1]
        assert done.rewritten
        now = [len(found.packs) for found in store.locations()]
        assert now[1] == 0
        assert all(count >= before for count, before in zip(now[::2], held[::2], strict=True))
        check_sound(other, promised(other))  # who knew where the packs were
        store.remove_location(url)
        assert store.verify()
    with Store(tmp_path / "home", create=False, threads=1) as again:
        assert again.empty_location(str(tmp_path / "home")).packs == now[0]
        check_sound(again, promised(again))
        assert again.verify()
        with pytest.raises(InvalidArgument, match="no location for new packs"):
            again.empty_location(str(tmp_path / "two"))
        with pytest.raises(InvalidArgument, match="own place"):
            again.remove_location(str(tmp_path / "home"))
        with pytest.raises(NotFound, match="no location"):
            again.empty_location("elsewhere")


def test_a_location_is_not_emptied_under_a_writer(store: Store, tmp_path: Path) -> None:
    held = len(store.locations()[1].packs)
    with store.writer("b"):
        done = store.empty_location(str(tmp_path / "one"), wait_s=0)
    assert done.waiting_for
    assert len(store.locations()[1].packs) == held
    again = store.empty_location(str(tmp_path / "one"))
    assert (again.packs, again.rewritten) == (held, 0)  # what it had copied before it gave up is kept


def test_a_location_that_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    missing: list[bool] = []
    while len(set(missing)) < 2:
        before = len(store.locations()[1].packs)
        store.put(f"own{len(missing)}", random_bytes(1000, len(missing)))
        missing.append(len(store.locations()[1].packs) > before)
    (tmp_path / "one").rename(tmp_path / "unmounted")
    store = Store(tmp_path / "home", create=False, threads=1)
    for number, is_missing in enumerate(missing):
        if is_missing:
            with pytest.raises(StoreError, match="one is missing") as caught:
                store.get(f"own{number}")
            assert not isinstance(caught.value, (NotFound, CorruptChunk))
        else:
            assert store.get(f"own{number}") == random_bytes(1000, number)
    for work in (lambda: put(store, "a", 99), store.gc, store.stats, store.repair):
        with pytest.raises(StoreError, match="one is missing"):
            work()
    report = store.verify()
    assert any(damage.what == f"location {tmp_path / 'one'}" for damage in report.damage)
    assert any(damage.hits for damage in report.damage)
    assert not (tmp_path / "one").exists()
    store.close()
    (tmp_path / "one").mkdir()  # a mount point with nothing there
    with pytest.raises(StoreError, match="one is missing"):
        Store(tmp_path / "home", locations=[tmp_path / "one"])
    with Store(tmp_path / "home", create=False, locations=[tmp_path / "unmounted"]) as moved:
        assert moved.verify()
        moved.add_location(tmp_path / "unmounted")
    with Store(tmp_path / "home", create=False) as again:
        assert [found.location.url for found in again.locations()][1] == str(tmp_path / "unmounted")
        assert again.verify()


def test_a_replica_stands_in_for_a_location_that_is_lost(store: Store, tmp_path: Path) -> None:
    store.sync(tmp_path / "copy")
    (tmp_path / "one").rename(tmp_path / "lost")
    wanted = promised(store)
    with Store(tmp_path / "home", create=False, threads=1, replicas=[tmp_path / "copy"]) as again:
        assert all(
            again.get(f"{name}@{version}") == content(number) for (name, version), number in wanted.items()
        )
        with pytest.raises(NotFound, match="no location"):
            again.remove_location("elsewhere")
        again.remove_location(str(tmp_path / "one"))
        assert len(again.locations()) == 2
        assert not again.verify()
        assert again.repair()
        settle(again)
    with Store(tmp_path / "home", create=False, threads=1) as alone:
        check_sound(alone, wanted)


def test_what_is_no_place_for_packs_is_refused(store: Store, tmp_path: Path) -> None:
    Store(tmp_path / "other", threads=1).close()
    with pytest.raises(InvalidArgument, match="is a store"):
        store.add_location(tmp_path / "other")
    with pytest.raises(InvalidArgument, match="another store"):
        Store(tmp_path / "other", locations=[tmp_path / "one"])
    with pytest.raises(InvalidArgument, match="is a location"):
        Store(tmp_path / "one")
    with pytest.raises(NotFound, match="no location"):
        Store(tmp_path / "home", create=False, locations=[tmp_path / "new"])
    with pytest.raises(InvalidArgument, match=r"holds \d+ packs"):
        store.remove_location(str(tmp_path / "one"))
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="weight"):
            store.add_location(tmp_path / "new", weight=weight)
    for found in store.locations()[1:]:
        store.add_location(found.location.url, weight=0)
    with pytest.raises(InvalidArgument, match="no location for new packs"):
        store.add_location(tmp_path / "home", weight=0)
    assert not (tmp_path / "new" / MARKER).exists()


def test_one_of_two_who_add_a_location_at_once_comes_second() -> None:
    home, one, two = FaultyBackend(), FaultyBackend(), FaultyBackend()
    with Store(home, threads=1) as store, Store(home, threads=1) as other:
        late = iter([None])

        def before(operation: str, path: str) -> None:
            if (operation, path) == ("create", "locations/1") and next(late, "over") is None:
                other.add_location(two)

        home.before = before
        store.add_location(one)
        urls = [str(home), str(two), str(one)]
        assert [found.location.url for found in store.locations()] == urls
        assert [found.location.url for found in other.locations()] == urls


def test_an_encrypted_store_hides_where_its_locations_are(tmp_path: Path) -> None:
    with Store(tmp_path / "home", key=bytes(16), locations=[tmp_path / "hidden-place"]) as store:
        put(store, "a", 0)
    everything = [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not any(b"hidden-place" in data for data in everything)


@pytest.mark.parametrize("moment", ["before the pack", "before the record"])
def test_no_pack_gets_lost_in_a_location_that_is_removed_meanwhile(moment: str) -> None:
    """A writer that has not heard of it yet puts a pack there before, or after, it is looked at."""
    home, place = FaultyBackend(), FaultyBackend()
    of_place = {"before the pack": ("create", "packs/"), "before the record": ("list", "packs/")}[moment]
    with Store(home, threads=1, locations=[place]) as store:
        store.add_location(place, weight=1e9)
        other = Store(home, threads=1, locations=[place])
        todo = [lambda: other.remove_location(str(place))]
        if moment == "before the record":
            todo = [lambda: None, lambda: put(store, "a", 0)]  # at the second look

        def interrupt(operation: str, path: str) -> None:
            if todo and operation == of_place[0] and path.startswith(of_place[1]):
                todo.pop(0)()

        place.before = interrupt
        if moment == "before the pack":
            put(store, "a", 0)
            assert len(store.locations()) == 1
        else:
            with contextlib.suppress(InvalidArgument):
                other.remove_location(str(place))
        assert not todo
        place.before = lambda operation, path: None
        check_sound(store, {("a", 1): 0})
        check_sound(other, {("a", 1): 0})
        other.close()


def test_a_location_that_cannot_be_removed_keeps_its_weight(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds \d+ packs"):
        store.remove_location(str(tmp_path / "one"))
    assert [found.location.weight for found in store.locations()] == [1, 1, 1]
