"""What a collection deletes, what it leaves, and what makes it stop."""

from __future__ import annotations

import errno
import itertools
from typing import Any

import numpy as np
import pytest

from store_world import GRACE_S, POLL_S, PlainContents, World
from thinwire.errors import Conflict, CorruptChunk, NotFound, StoreError
from thinwire.store import collector, leases
from thinwire.store.collector import Collected, collect
from thinwire.store.leases import Lease
from thinwire.store.survey import Census, Plan, Survey, union


@pytest.fixture
def world() -> World:
    return World()


def gc(world: World, contents: PlainContents | None = None, **options: Any) -> Collected:
    def sleep(seconds: float) -> None:
        world.store.now += seconds

    return collect(
        world.store,
        world.refs,
        contents or world.contents,
        **{"poll_s": POLL_S, "background": False, "sleep": sleep, "clock": world.clock, **options},
    )


def packs(world: World) -> list[list[int]]:
    there = {pack.hex() for pack in leases.present_packs(world.store)}
    return sorted(chunks for pack, chunks in world.contents.places().items() if pack in there)


def test_nothing_is_deleted_from_a_store_without_garbage(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    before = dict(world.store.objects)
    assert gc(world) == Collected()
    gone = before.keys() - world.store.objects.keys()
    assert all(path.startswith(leases.LEASES) for path in gone)


def test_what_a_deleted_version_alone_needed_is_deleted(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    world.write(world.store, "b", [3])
    world.refs.delete("a", 1)
    done = gc(world)
    assert (done.packs, done.manifests, done.refs) == (1, 1, 0)
    assert done.bytes > 0
    assert packs(world) == [[3]]
    world.write(world.store, "a", [1])
    assert gc(world).refs == 1  # now that there is a greater number


def test_packs_that_are_mostly_garbage_are_rewritten(world: World) -> None:
    world.write(world.store, "a", [1, 2, 3])
    world.write(world.store, "b", [3])
    world.refs.delete("a", 1)
    assert gc(world, live_share=0.3).packs == 0
    done = gc(world)
    assert (done.packs, done.rewritten) == (1, 1)
    assert packs(world) == [[3]]
    world.check()
    assert world.violation is None


class FullDisk(PlainContents):
    """There is no room for a copy."""

    def rewrite(self, chunks: Any, packs: Any, heartbeat: Any) -> None:
        error = StoreError("no space is left")
        error.errno = errno.ENOSPC
        raise error


def test_on_a_full_disk_what_is_all_garbage_goes(world: World) -> None:
    world.write(world.store, "a", [1, 2, 3])
    world.write(world.store, "b", [3])
    world.write(world.store, "c", [4, 5])
    world.refs.delete("a", 1)
    world.refs.delete("c", 1)
    full = FullDisk(world.store)
    with pytest.raises(StoreError, match="no space"):
        gc(world, full, given_up=leases.present_packs(world.store).keys())
    done = gc(world, full)
    assert (done.packs, done.rewritten) == (1, 0)
    assert packs(world) == [[1, 2, 3]]
    assert gc(world).rewritten == 1
    assert packs(world) == [[3]]
    world.check()
    assert world.violation is None


def test_on_a_full_disk_what_another_condemned_stays_while_it_is_needed(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    leases.condemn(world.store, "another", leases.present_packs(world.store))
    world.write(world.store, "b", [3])
    world.refs.delete("b", 1)
    done = gc(world, FullDisk(world.store))
    assert (done.packs, done.rewritten) == (1, 0)
    assert packs(world) == [[1, 2]]
    world.check()
    assert world.violation is None


def test_packs_that_are_given_up_are_rewritten_whatever_they_hold(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    before = leases.present_packs(world.store).keys()
    world.write(world.store, "b", [3])
    done = gc(world, given_up=before)
    assert (done.packs, done.rewritten) == (1, 2)
    assert packs(world) == [[1, 2], [3]]
    assert not before & leases.present_packs(world.store).keys()
    world.check()
    assert world.violation is None


def test_of_a_chunk_in_two_packs_one_place_stays(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    world.contents.write_segment({world.contents.write_pack([1]).hex(): [1]})
    assert gc(world).packs == 1
    assert packs(world) == [[1, 2]]


def test_a_pack_of_a_crashed_writer_is_deleted_once_it_was_silent_long_enough(world: World) -> None:
    Lease.open(world.store, grace_s=GRACE_S, background=False)
    world.contents.write_pack([7])
    done = gc(world, wait_s=0)
    assert done.packs == 0
    assert done.waiting_for[0].startswith("process ")
    assert len(leases.present_packs(world.store)) == 1
    assert not list(world.store.list(leases.CONDEMNED))
    begin = world.store.now
    assert gc(world).packs == 1
    assert world.store.now - begin > GRACE_S - POLL_S


def test_a_lease_keeps_its_own_grace_time(world: World) -> None:
    lease = Lease.open(world.store, grace_s=1000 * GRACE_S, background=False)
    world.contents.write_pack([7])
    assert gc(world, grace_s=GRACE_S, wait_s=10 * GRACE_S).waiting_for
    lease.commit()
    assert gc(world).packs == 1


def test_a_second_collector_is_refused_until_the_first_is_silent(world: World) -> None:
    lease = Lease.open(world.store, leases.COLLECTOR, GRACE_S, background=False)
    with pytest.raises(Conflict, match="is collecting garbage in this store; let it finish"):
        gc(world)
    world.store.now += 2 * GRACE_S
    gc(world)
    assert leases.state_of_lease(world.store, lease.id) == leases.REVOKED


def test_packs_of_a_collector_that_was_killed_are_taken_over(world: World) -> None:
    world.write(world.store, "a", [1, 2])
    (pack,) = leases.present_packs(world.store)
    condemned = leases.condemn(world.store, "killed", [pack])
    done = gc(world)
    assert (done.packs, done.rewritten) == (1, 2)
    assert packs(world) == [[1, 2]]
    assert pack not in leases.present_packs(world.store)
    assert not world.store.exists(condemned)


@pytest.mark.parametrize("error", [CorruptChunk("damaged"), NotFound("gone")], ids=repr)
def test_when_a_manifest_cannot_be_read_nothing_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    world.write(world.store, "a", [1])
    world.contents.write_pack([7])
    before = set(world.store.objects)

    def broken(ref: Any) -> Any:
        raise error

    monkeypatch.setattr(world.contents, "chunks_of", broken)
    with pytest.raises(type(error)):
        gc(world)
    assert set(world.store.objects) == before


def test_when_the_index_cannot_be_read_nothing_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when that happens after the packs were condemned: they are pardoned."""
    world.write(world.store, "a", [1])
    world.contents.write_pack([7])
    before = set(world.store.objects)
    census, calls = world.contents.census, []

    def broken() -> Census:
        calls.append(1)
        if len(calls) == 2:
            raise CorruptChunk("index/abc is damaged")
        return census()

    monkeypatch.setattr(world.contents, "census", broken)
    with pytest.raises(CorruptChunk):
        gc(world)
    assert set(world.store.objects) == before


def test_unknown_packs_are_spared_while_a_chunk_is_missing(world: World) -> None:
    """A segment was lost; it is repair that knows what is in those packs."""
    world.write(world.store, "a", [1])
    world.write(world.store, "b", [2])
    world.refs.delete("b", 1)
    segment = next(path for path, packs in world.contents.segments().items() if [1] in packs.values())
    world.store.delete(segment)
    done = gc(world)
    assert done.missing == 1
    assert done.packs == 1  # what the index does know is deleted all the same
    assert len(leases.present_packs(world.store)) == 1


def test_a_pack_stays_condemned_when_its_deletion_may_still_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.contents.write_pack([7])
    delete = world.store.delete

    def lost(path: str) -> None:
        if path.startswith(leases.PACKS):
            raise StoreError("timed out")
        delete(path)

    monkeypatch.setattr(world.store, "delete", lost)
    with pytest.raises(StoreError, match="timed out"):
        gc(world)
    assert leases.usable_packs(world.store) == set()


def test_a_version_that_is_deleted_under_the_collectors_eyes_is_no_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(world.store, "a", [1])
    chunks_of = world.contents.chunks_of

    def deleted(ref: Any) -> Any:
        if ref.version == 1 and ref.name == "a":
            world.refs.delete("a", 1)
            raise NotFound("gone")
        return chunks_of(ref)

    monkeypatch.setattr(world.contents, "chunks_of", deleted)
    assert gc(world).packs == 1


def test_a_collector_leaves_no_trace(world: World) -> None:
    world.contents.write_pack([7])
    gc(world)
    assert world.store.objects == {}


def ids(*chunks: int) -> Any:
    return np.frombuffer(b"".join(bytes([chunk]) * 32 for chunk in chunks), np.uint8).reshape(-1, 32)


def test_a_survey_of_nothing() -> None:
    nothing = Census([], ids(), np.zeros(0, np.int64), np.zeros(0, np.int64))
    survey = Survey(ids(), nothing, set(), set())
    plan = survey.plan(collector.LIVE_SHARE)
    assert (len(plan.chunks), plan.packs, survey.deletable(set())) == (0, set(), set())
    assert Survey(ids(1), nothing, {b"p"}, set()).missing == 1


def census_of(packs: dict[bytes, list[int]]) -> Census:
    """Packs with their chunks, of one byte each."""
    places = [(number, chunk) for number, chunks in enumerate(packs.values()) for chunk in chunks]
    pack_of = np.array([number for number, _ in places], np.int64)
    return Census(list(packs), ids(*(chunk for _, chunk in places)), pack_of, np.ones(len(places), np.int64))


@pytest.mark.parametrize("order", list(itertools.permutations([b"old", b"new", b"other"])))
def test_what_an_attempt_that_gave_up_has_copied_is_not_copied_again(order: tuple[bytes, ...]) -> None:
    def plan(contents: dict[bytes, list[int]], needed: list[int], given_up: set[bytes]) -> Plan:
        packs = {name: contents[name] for name in order if name in contents}
        survey = Survey(ids(*needed), census_of(packs), packs.keys(), set())
        return survey.plan(collector.LIVE_SHARE, given_up)

    poor = plan({b"old": [1, 2, 3], b"new": [1]}, [1], set())
    assert (len(poor.chunks), poor.packs) == (0, {b"old"})
    several = {b"old": [1, 2, 3, 7, 8, 9, 10], b"new": [1, 2], b"other": [3]}
    scattered = plan(several, [1, 2, 3], set())
    assert (len(scattered.chunks), scattered.packs) == (0, {b"old"})
    given_up = plan({b"old": [1, 2, 3], b"new": [1, 2]}, [1, 2, 3], {b"old"})
    assert given_up.chunks.tolist() == ids(3).tolist()
    assert given_up.packs == {b"old"}


def test_a_union_holds_each_id_once() -> None:
    parts = [ids(3, 1), ids(), ids(1, 2), ids(255, 0)]
    assert union(parts).tolist() == ids(0, 1, 2, 3, 255).tolist()
    assert union([]).shape == (0, 32)
