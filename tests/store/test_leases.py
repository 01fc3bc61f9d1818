"""How a lease begins, is kept, and ends: once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from store_world import MemoryBackend
from thinwire.errors import StoreError
from thinwire.store import leases
from thinwire.store.leases import COLLECTOR, COMMITTED, REVOKED, Lease


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def open_lease(backend: MemoryBackend, **options: Any) -> Lease:
    return Lease.open(backend, background=False, clock=lambda: backend.now, **options)


def test_a_lease_is_open_until_it_ends(backend: MemoryBackend) -> None:
    lease = open_lease(backend, kind=COLLECTOR, grace_s=8)
    (seen,) = leases.open_leases(backend)
    assert (seen.id, seen.kind, seen.grace_s) == (lease.id, COLLECTOR, 8)
    assert seen.owner.startswith("process ")
    assert leases.state_of_lease(backend, lease.id) is None
    lease.commit()
    assert lease.ended
    assert leases.open_leases(backend) == []
    assert leases.state_of_lease(backend, lease.id) == COMMITTED


def test_a_heartbeat_comes_every_quarter_of_the_grace_time(backend: MemoryBackend) -> None:
    lease = open_lease(backend, grace_s=8)
    for now, beats in ((1, 1), (2, 2), (3, 2), (4, 3)):
        backend.now = now
        lease.heartbeat()
        assert len(leases.heartbeats(backend)) == beats
    (seen,) = leases.open_leases(backend)
    backend.now = 10
    assert seen.silence(backend) == 6
    lease.abandon()
    lease.heartbeat()
    assert len(leases.heartbeats(backend)) == 3


def test_a_thread_keeps_a_lease_and_ends_with_it() -> None:
    backend = MemoryBackend()
    lease = Lease.open(backend, grace_s=0.02)
    deadline = time.monotonic() + 20
    while len(leases.heartbeats(backend)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    lease.commit()
    beats = len(leases.heartbeats(backend))
    time.sleep(0.05)
    assert len(leases.heartbeats(backend)) == beats


def test_a_heartbeat_that_fails_is_followed_by_others(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the object was made and only the answer was lost."""
    lease = open_lease(backend, grace_s=8)
    create = backend.create

    def lost(path: str, parts: Any) -> None:
        create(path, parts)
        raise StoreError("lost")

    backend.now = 2
    with monkeypatch.context() as broken:
        broken.setattr(backend, "create", lost)
        with pytest.raises(StoreError, match="lost"):
            lease.heartbeat()
    backend.now = 4
    lease.heartbeat()
    assert len(leases.heartbeats(backend)) == 3


def test_a_revoked_lease_cannot_be_committed(backend: MemoryBackend) -> None:
    lease = open_lease(backend, grace_s=8)
    assert leases.end_lease(backend, lease.id, REVOKED) == REVOKED
    with pytest.raises(StoreError, match=r"silent for longer than its grace time of 8 s.*write again"):
        lease.commit()
    assert leases.state_of_lease(backend, lease.id) == REVOKED


def test_a_committed_lease_cannot_be_revoked(backend: MemoryBackend) -> None:
    lease = open_lease(backend)
    lease.commit()
    assert leases.end_lease(backend, lease.id, REVOKED) == COMMITTED


def test_a_commit_whose_answer_was_lost_is_found_to_be_one(backend: MemoryBackend) -> None:
    lease = open_lease(backend)
    backend.create(leases.ENDS + lease.id, [COMMITTED.encode()])
    lease.commit()


def test_leaving_without_commit_gives_the_lease_up(backend: MemoryBackend) -> None:
    with open_lease(backend) as lease:
        pass
    assert leases.state_of_lease(backend, lease.id) == REVOKED
    with open_lease(backend) as lease:
        lease.commit()
    assert leases.state_of_lease(backend, lease.id) == COMMITTED


def test_the_first_error_is_the_one_that_is_heard(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = open_lease(backend)

    def broken(path: str, parts: Any) -> None:
        raise StoreError("no connection")

    monkeypatch.setattr(backend, "create", broken)
    with pytest.raises(ZeroDivisionError), lease:
        raise ZeroDivisionError


def test_a_damaged_heartbeat_is_waited_for_as_a_writers(backend: MemoryBackend) -> None:
    backend.create("leases/abc.1", [b""])
    (seen,) = leases.open_leases(backend)
    assert (seen.kind, seen.grace_s) == (leases.WRITER, leases.GRACE_S)


def test_a_damaged_end_is_named(backend: MemoryBackend) -> None:
    backend.create("ends/abc", [b"comm"])
    with pytest.raises(StoreError, match="ends/abc is damaged"):
        leases.state_of_lease(backend, "abc")


def test_a_foreign_object_among_heartbeats_is_named(backend: MemoryBackend) -> None:
    backend.create("leases/README", [b""])
    with pytest.raises(StoreError, match=r"leases/README is no heartbeat; delete it"):
        leases.open_leases(backend)


def test_condemned_packs_are_not_usable(backend: MemoryBackend) -> None:
    packs = [bytes([number]) * 32 for number in range(3)]
    for pack in packs:
        backend.create(f"packs/{pack.hex()[:2]}/{pack.hex()}", [b""])
    backend.create("packs/README", [b""])
    leases.condemn(backend, "first", packs[:1])
    leases.condemn(backend, "second", packs[1:2])
    assert leases.usable_packs(backend) == {packs[2]}
    assert leases.condemned_packs(backend, but="first") == {packs[1]}


def test_a_damaged_list_of_condemned_packs_stops_everything(backend: MemoryBackend) -> None:
    backend.create("condemned/abc", [b'{"packs": ["zz"]}'])
    with pytest.raises(StoreError, match="condemned/abc is damaged"):
        leases.usable_packs(backend)
