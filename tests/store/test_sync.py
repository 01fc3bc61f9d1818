"""Copying a store: only what is missing, under the same numbers, and on from wherever it was cut off."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crash_world import check_sound, put
from faulty_backend import FaultyBackend
from store_data import KEY, random_bytes
from thinwire.errors import InvalidArgument, StoreError
from thinwire.store import reader, syncing
from thinwire.store.leases import GRACE_S
from thinwire.store.manifest import Manifest
from thinwire.store.refs import Ref
from thinwire.store.store import Store
from thinwire.store.writer import Writer

ENDLESS = 10**9


def delete_before_it_is_read(store: Store, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.catalog.manifest

    def after_a_collection(ref: Ref) -> Manifest:
        if f"{ref.name}@{ref.version}" == version:
            store.delete(version)
            store.gc()
        return real(ref)

    monkeypatch.setattr(store.catalog, "manifest", after_a_collection)


def test_sync_sends_what_is_missing_and_keeps_numbers(store: Store, tmp_path: Path) -> None:
    data = [random_bytes(1_000_000, seed) for seed in range(3)]
    store.put("a", data[0])
    store.put("a", data[0] + data[1])
    done = store.sync(tmp_path / "copy")
    assert (done.versions, done.sent) == (2, store.stats().unique)
    store.put("a", data[0] + data[1] + data[2])
    store.delete("a@1")
    done = store.sync(tmp_path / "copy")
    assert done.versions == 1
    assert done.sent < 1_200_000
    assert not store.sync(tmp_path / "copy").versions
    key = KEY if store.catalog.keys.encrypted else None
    with Store(tmp_path / "copy", key=key, create=False) as copy:
        assert copy.get("a@3") == b"".join(data)
        assert copy.get("a@1") == data[0]
        assert copy.verify()
        copy.put("a", b"other")
        store.put("a", b"another")
        assert store.sync(copy).conflicts == ["a@4"]


def test_sync_goes_between_stores_with_other_keys(store: Store, tmp_path: Path) -> None:
    data = random_bytes(1_000_000)
    store.put("a", data + data)
    with Store(tmp_path / "other", passphrase="x") as other:
        assert store.sync(other).versions == 1
        assert other.get("a") == data + data
        assert store.sync(other).versions == 0
        with pytest.raises(InvalidArgument, match="another store"):
            store.sync(tmp_path / "other")


def test_a_copy_under_another_key_is_known_again_without_being_read(tmp_path: Path) -> None:
    here, there = FaultyBackend(), FaultyBackend()
    with Store(here) as store, Store(there, key=KEY) as other, Store(tmp_path / "third") as third:
        data = random_bytes(1_000_000)
        store.put("a", data, metadata={"step": 1})
        assert store.sync(other).versions == 1
        here.reads.clear()
        there.reads.clear()
        for again in (store.sync(other), other.sync(store)):
            assert (again.versions, again.conflicts) == (0, [])
        assert not [path for path in here.reads + there.reads if path.startswith("packs/")]
        assert other.sync(third).versions == 1
        assert third.get("a") == data
        assert other.sync(third).conflicts == []
        assert store.sync(third).conflicts == []  # its own way there was another


def test_what_a_version_says_of_itself_comes_through_stores_of_other_keys(tmp_path: Path) -> None:
    described = {"origin": "a crawl", "store": "x", "user": {"origin": [1]}}
    one, two, three = (tmp_path / name for name in "123")
    with Store(one) as store, Store(two, key=KEY) as other, Store(three) as third:
        for each, name in ((store, "a"), (third, "b")):
            with each.writer(name) as writer:
                writer.commit({**described, "of": name}, writer.add(b"the same"))
        store.sync(other)
        other.sync(third)
        for each in (store, other, third):
            assert each.reader("a").metadata == {**described, "of": "a"}
        with third.writer("d") as writer, pytest.raises(InvalidArgument, match="thinwire:origin"):
            writer.commit({"thinwire:origin": 1}, writer.add(b"d"))


def test_equal_content_that_is_described_otherwise_is_a_conflict(tmp_path: Path) -> None:
    with Store(tmp_path / "one") as one, Store(tmp_path / "other") as other:
        for store, origin in ((one, "one"), (other, "other")):
            with store.writer("a") as writer:
                writer.commit({"origin": origin}, writer.add(b"the same"))
        assert one.sync(other).conflicts == ["a@1"]


def test_nothing_is_sent_for_a_version_that_cannot_be_made(tmp_path: Path) -> None:
    backend = FaultyBackend()
    with Store(tmp_path / "one") as store, Store(backend, key=KEY) as other:
        for seed in range(2):
            store.put("a", random_bytes(100_000, seed))
        store.sync(other)
        other.delete("a@1")
        other.gc()
        before = backend.paths("packs")
        done = store.sync(other)
        assert (done.sent, done.conflicts) == (0, ["a@1"])
        assert backend.paths("packs") == before


def test_a_version_that_is_deleted_there_while_it_is_compared_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "one") as store, Store(tmp_path / "other") as other:
        for seed in range(2):
            store.put("a", random_bytes(1000, seed))
        store.sync(other)
        delete_before_it_is_read(other, "a@1", monkeypatch)
        assert store.sync(other).conflicts == ["a@1"]


def test_what_is_below_a_name_is_copied_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "one") as store, Store(tmp_path / "other") as other:
        names = ["a", "a-b", "a/rank0", "a/rank1", "b"]

        def save() -> None:
            for name in reversed(names):
                store.put(name, random_bytes(1000))

        save()
        copied: list[str] = []
        real = other.writer

        def while_another_saves(name: str) -> Writer:
            if not copied:
                save()
            copied.append(name)
            return real(name)

        monkeypatch.setattr(other, "writer", while_another_saves)
        store.sync(other)
        assert copied == names[::-1]  # each at the version it had when it was listed


@pytest.mark.parametrize("same", [True, False])
def test_versions_of_other_keys_are_compared_by_their_content(tmp_path: Path, same: bool) -> None:
    ends = np.arange(1, 11) * 1000
    with Store(tmp_path / "one") as one, Store(tmp_path / "other", key=KEY) as other:
        for store, seed in ((one, 1), (other, 1 if same else 2)):
            with store.writer("a") as writer:
                writer.commit({"kind": "bytes"}, writer.add(random_bytes(10_000, seed), ends))
        assert one.sync(other).conflicts == ([] if same else ["a@1"])
        assert other.sync(one).conflicts == ([] if same else ["a@1"])


def test_a_version_that_is_deleted_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "one") as store, Store(tmp_path / "other") as other:
        for seed in range(3):
            store.put("a", random_bytes(1000, seed))
        delete_before_it_is_read(store, "a@2", monkeypatch)
        assert store.sync(other).versions == 2
        assert [ref.version for ref in other.versions("a")] == [1, 3]
        assert other.verify()


def test_a_version_that_another_copy_made_meanwhile_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "one") as store, Store(tmp_path / "other") as other:
        store.put("a", b"x")
        real = other.writer

        def after_another_copy(name: str) -> Writer:
            monkeypatch.setattr(other, "writer", real)
            store.sync(other)
            return real(name)

        monkeypatch.setattr(other, "writer", after_another_copy)
        done = store.sync(other)
        assert (done.versions, done.conflicts) == (0, [])


def test_a_version_that_another_copy_is_about_to_commit_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "one") as store, Store(tmp_path / "other") as other:
        data = random_bytes(100_000)
        store.put("a", data)
        real = other.writer
        begun: list[Writer] = []

        def after_another_copy_has_come_to_its_commit(name: str) -> Writer:
            mine, another = real(name), real(name)
            begun.append(another)
            made = store.catalog.manifest(store.refs.resolve(name))
            assert np.array_equal(another.add(data)["id"], made.chunks["id"])
            another.flush()
            write = functools.partial(other.catalog.write_manifest, made, name)
            other.refs.publish(name, another._lease, write, version=1)
            return mine

        monkeypatch.setattr(other, "writer", after_another_copy_has_come_to_its_commit)
        done = store.sync(other)
        assert (done.versions, done.conflicts) == (1, [])
        begun[0]._lease.commit()  # as if nothing had happened
        assert other.get("a") == data
        assert other.verify()


def test_what_sync_opens_it_closes(tmp_path: Path) -> None:
    with Store(tmp_path / "one") as store:
        store.put("a", b"x")
        before = threading.active_count()
        for _ in range(3):
            store.sync(tmp_path / "copy")
        assert threading.active_count() <= before + 2  # of the store's own


def test_a_sync_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(syncing, "FLUSH_BYTES", 2 << 20)
    assert reader.BATCH_BYTES > 1 << 20
    backend = FaultyBackend()
    data = random_bytes(8 << 20)
    with Store(tmp_path) as store, Store(backend) as other:
        store.put("a", data)

        def fail(operation: str, path: str) -> None:
            if operation == "create" and path.startswith("index/") and len(backend.paths("index")) == 2:
                raise StoreError("the line is cut")

        backend.before = fail
        with pytest.raises(StoreError, match="cut"):
            store.sync(other)
        backend.before = lambda operation, path: None
        assert other.ls() == []
        assert store.sync(other).sent < 5 << 20
        assert other.get("a") == data


class Killed(BaseException):
    """The process is gone."""


def sync_until(source: Store, copy: FaultyBackend, step: int) -> int:
    """Copy, and be killed before step number `step` or after it, in turn; how many there are."""
    steps = itertools.count(1)
    count = 0

    def before(operation: str, path: str) -> None:
        nonlocal count
        if operation in ("create", "created"):
            count = next(steps)
            if count >= step:
                raise Killed

    copy.before = before
    try:
        with source.replica_at(copy) as target:
            source.sync(target)
    except Killed:
        pass
    finally:
        copy.before = lambda operation, path: None
    return count


def at_once(source: Store, copy: FaultyBackend) -> None:
    """Nothing comes between."""


def after_a_collection(source: Store, copy: FaultyBackend) -> None:
    """A collector takes the killed process for dead."""
    copy.now += 3 * GRACE_S
    with source.replica_at(copy) as target:
        target.gc(wait_s=0)


@pytest.mark.parametrize(
    ("then", "kills", "stride"),
    [
        (at_once, 1, 2),
        (after_a_collection, 1, 2),
        (after_a_collection, 2, 5),
        pytest.param(at_once, 2, 1, marks=pytest.mark.torture),
        pytest.param(after_a_collection, 2, 1, marks=pytest.mark.torture),
    ],
)
def test_a_copy_that_was_killed_goes_on(then: Callable[..., None], kills: int, stride: int) -> None:
    """Wherever that was: every version gets its number."""
    with Store(FaultyBackend(), threads=1) as source:
        for number in range(2):
            put(source, "a", number)
        promised = {("a", 1): 0, ("a", 2): 1}
        steps = sync_until(source, FaultyBackend(), ENDLESS)
        assert steps > 20
        for step in range(1, steps + 1, stride):
            copy = FaultyBackend()
            for _ in range(kills):
                sync_until(source, copy, step)
                then(source, copy)
            with source.replica_at(copy) as target:
                assert source.sync(target).conflicts == []
                check_sound(target, promised)
                assert {ref.version for ref in target.versions("a")} == {1, 2}
                put(source, "b", 2)
                source.sync(target)
                target.gc(wait_s=0)
                check_sound(target, promised)
            source.delete("b")


def test_an_answer_that_is_lost_costs_no_number() -> None:
    """The version is there, and its writer gives up, as it was told that it is not."""
    with Store(FaultyBackend(), threads=1) as source, Store(FaultyBackend(), threads=1) as target:
        put(source, "a", 0)

        def lose(operation: str, path: str) -> None:
            if operation == "created" and path.startswith("refs/"):
                raise StoreError("the answer was lost")

        copy = target.backend.home
        assert isinstance(copy, FaultyBackend)
        for _ in range(3):
            copy.before = lose
            with pytest.raises(StoreError, match="lost"):
                source.sync(target)
        copy.before = lambda operation, path: None
        assert source.sync(target).versions == 1
        check_sound(target, {("a", 1): 0})
        put(source, "a", 1)
        source.sync(target)
        target.gc(wait_s=0)
        check_sound(target, {("a", 1): 0, ("a", 2): 1})
        for version in (1, 2):
            target.delete(f"a@{version}")
        put(target, "a", 2)
        target.gc(wait_s=0)
        assert [path.rpartition("/")[2].lstrip("0") for path in copy.paths("refs")] == ["3"]


def test_a_copy_finishes_only_what_is_the_same() -> None:
    with Store(FaultyBackend(), threads=1) as source, Store(FaultyBackend(), threads=1) as target:
        put(source, "a", 0)
        with target.writer("a") as writer:
            chunks = writer.add(b"other")
            publish, writer._lease.commit = writer._lease.commit, lambda: None  # type: ignore[method-assign]
            writer.commit({"kind": "bytes"}, chunks)
            assert source.sync(target).conflicts == ["a@1"]
            publish()
        assert target.get("a@1") == b"other"
