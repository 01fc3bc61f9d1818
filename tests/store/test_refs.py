"""Names, versions, and who is faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from at_once import at_once
from store_world import MemoryBackend
from thinwire.errors import Conflict, CorruptChunk, InvalidArgument, NotFound, StoreError
from thinwire.store import leases, refs
from thinwire.store.backend import Entry
from thinwire.store.leases import Lease
from thinwire.store.refs import Ref, Refs


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def publish(backend: MemoryBackend, name: str, *, commit: bool = True, **options: int) -> Ref:
    lease = Lease.open(backend, background=False)
    ref = Refs(backend).publish(name, lease, lambda number: f"manifest-{name}-{number}", **options)
    if commit:
        lease.commit()
    return ref


def test_versions_count_from_one(backend: MemoryBackend) -> None:
    made = [publish(backend, "a/b") for _ in range(3)]
    assert [ref.version for ref in made] == [1, 2, 3]
    store = Refs(backend)
    assert store.versions("a/b") == made
    assert store.resolve("a/b") == made[2]
    assert store.resolve("a/b@2") == made[1]
    assert made[1].manifest == "manifest-a/b-2"
    assert store.versions("a") == []


def test_what_is_not_committed_does_not_count(backend: MemoryBackend) -> None:
    first = publish(backend, "a")
    pending = publish(backend, "a", commit=False)
    publish(backend, "other", commit=False)
    store = Refs(backend)
    assert store.resolve("a") == first
    with pytest.raises(NotFound, match="a@2"):
        store.resolve("a@2")
    assert list(store.names()) == ["a"]
    leases.end_lease(backend, pending.lease, leases.COMMITTED)
    assert store.resolve("a") == pending


def test_names_are_found_by_prefix(backend: MemoryBackend) -> None:
    for name in ("run/one", "run/two", "runner", "x"):
        publish(backend, name)
    store = Refs(backend)
    assert sorted(store.names("run")) == ["run/one", "run/two", "runner"]
    assert sorted(store.names("run/")) == ["run/one", "run/two"]
    assert sorted(store.names("run/t")) == ["run/two"]


def test_all_versions_are_deleted_at_one_look(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        publish(backend, "a")
    store, looks, real = Refs(backend), 0, backend.list

    def counted(prefix: str) -> Iterator[Entry]:
        nonlocal looks
        looks += 1
        return real(prefix)

    monkeypatch.setattr(backend, "list", counted)
    store.delete("a", *range(1, 21))
    assert looks == 1
    assert store.versions("a") == []


def test_a_deleted_version_is_gone_and_its_number_stays_taken(backend: MemoryBackend) -> None:
    publish(backend, "a")
    store = Refs(backend)
    store.delete("a", 1)
    assert (store.versions("a"), list(store.names())) == ([], [])
    for name in ("a", "a@1"):
        with pytest.raises(NotFound):
            store.resolve(name)
    with pytest.raises(NotFound, match="a@1"):
        store.delete("a", 1)
    assert publish(backend, "a").version == 2


def test_what_another_deleted_meanwhile_does_not_keep_the_rest(backend: MemoryBackend) -> None:
    for _ in range(3):
        publish(backend, "a")
    store = Refs(backend)
    store.delete("a", 2)
    store.delete("a", 1, 2, 3)
    assert store.versions("a") == []
    with pytest.raises(NotFound, match="a@1, a@2"):
        store.delete("a", 1, 2)


def test_expect_sees_to_it_that_nobody_came_between(backend: MemoryBackend) -> None:
    assert publish(backend, "a", expect=0).version == 1
    with pytest.raises(Conflict, match=r"a is at version 1, not at 0: look again"):
        publish(backend, "a", expect=0)
    assert publish(backend, "a", expect=1).version == 2


def test_expect_does_not_overtake_a_writer_that_may_yet_commit(backend: MemoryBackend) -> None:
    publish(backend, "a")
    pending = publish(backend, "a", commit=False)
    with pytest.raises(Conflict, match=r"another writer is making a@2"):
        publish(backend, "a", expect=1)
    leases.end_lease(backend, pending.lease, leases.REVOKED)
    assert publish(backend, "a", expect=1).version == 3


def test_of_many_with_one_expectation_one_succeeds(backend: MemoryBackend) -> None:
    publish(backend, "a")
    made: list[int] = []

    def work(_: int) -> None:
        with suppress(Conflict):
            made.append(publish(backend, "a", expect=1).version)

    at_once(work, 8)
    assert made == [2]


def test_without_expectation_everybody_gets_a_number(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease.open(backend, background=False)
    asked: list[int] = []

    def write_manifest(number: int) -> str:
        asked.append(number)
        if len(asked) == 1:
            publish(backend, "a")  # somebody is faster
        return "manifest"

    assert Refs(backend).publish("a", lease, write_manifest).version == 2
    assert asked == [1, 2]


def test_a_number_can_be_asked_for_above_all_others(backend: MemoryBackend) -> None:
    assert publish(backend, "a", version=7).version == 7
    for taken in (3, 7):
        with pytest.raises(Conflict, match=f"a@{taken} cannot be made: a has come to version 7"):
            publish(backend, "a", version=taken)
    assert publish(backend, "a").version == 8


def test_a_version_whose_manifest_is_lost_can_be_made_again(backend: MemoryBackend) -> None:
    old = publish(backend, "a")
    lease = Lease.open(backend, background=False)
    new = Refs(backend).replace(old, lease, lambda number: "mended")
    lease.commit()
    assert Refs(backend).resolve("a@1") == new
    assert (new.manifest, new.version, new.created) == ("mended", 1, old.created)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "ä", "a\n", "0" * 20, "a/" + "1" * 20 + ".x", "a" * 201],
)
def test_a_name_that_is_none_is_refused(backend: MemoryBackend, name: str) -> None:
    for work in (Refs(backend).resolve, lambda name: publish(backend, name)):
        with pytest.raises(InvalidArgument, match="is no name"):
            work(name)
    assert not list(backend.list(refs.REFS))


@pytest.mark.parametrize("name", ["a@", "a@x", "a@-1", "a@1@2", "a@²"])
def test_a_version_that_is_none_is_refused(backend: MemoryBackend, name: str) -> None:
    with pytest.raises(InvalidArgument, match="names no version: write a@3"):
        Refs(backend).resolve(name)


def test_a_damaged_version_is_named(backend: MemoryBackend) -> None:
    publish(backend, "a")
    path = refs.path_of("a", 1)
    whole, born = backend.objects[path]
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for data in (b"", whole[:-1], whole + b" ", *damaged):
        backend.objects[path] = data, born
        with pytest.raises(CorruptChunk, match=r"refs/a/0{19}1 is damaged; run repair, or delete a@1"):
            Refs(backend).resolve("a")


def test_a_version_does_not_pass_for_another(backend: MemoryBackend) -> None:
    publish(backend, "a")
    publish(backend, "a")
    backend.objects[refs.path_of("a", 2)] = backend.objects[refs.path_of("a", 1)]
    with pytest.raises(CorruptChunk, match="is damaged"):
        Refs(backend).resolve("a")


def test_a_foreign_object_among_versions_is_named(backend: MemoryBackend) -> None:
    backend.create("refs/a/latest", [b""])
    with pytest.raises(StoreError, match="refs/a/latest does not belong to the store"):
        Refs(backend).resolve("a")


def test_versions_are_sealed_for_their_path(backend: MemoryBackend) -> None:
    class Reversed:
        def seal(self, path: str, plain: bytes) -> bytes:
            return (path.encode() + plain)[::-1]

        def open(self, path: str, stored: bytes) -> bytes:
            assert stored[::-1].startswith(path.encode())
            return stored[::-1].removeprefix(path.encode())

    store = Refs(backend, Reversed())
    with Lease.open(backend, background=False) as lease:
        made = store.publish("a", lease, lambda number: "secret")
        lease.commit()
    assert store.resolve("a") == made
    assert b"secret" not in backend.read(refs.path_of("a", 1))
