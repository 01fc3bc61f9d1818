"""Leases: who is at work in a store, and whether that ended well.

A lease ends once, by the creation of `ends/<id>`. Who creates it first decides: its owner, and what it wrote
counts; or a collector that heard nothing for the lease's grace time, and it never will. The end of a revoked
lease is kept for ever, as its owner may be paused for long and then go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple

from thinwire.errors import Conflict, NotFound, StoreError
from thinwire.store import checked
from thinwire.store.backend import Backend, Entry

LEASES, ENDS, CONDEMNED, PACKS = "leases/", "ends/", "condemned/", "packs/"
GRACE_S = 3600.0
WRITER, COLLECTOR = "writer", "collector"
COMMITTED, REVOKED = "committed", "revoked"

_BEATS_A_GRACE = 4
_PACK = re.compile(rf"{PACKS}[0-9a-f]{{2}}/([0-9a-f]{{64}})")


class Lease:
    """A writer's or a collector's. Open one before looking at what is in the store.

    As a context manager: leaving it without `commit` gives the lease up. A thread adds heartbeats, so that
    long work stays known; `background=False` leaves that to `heartbeat`.
    """

    def __init__(self, backend: Backend, kind: str, grace_s: float, clock: Callable[[], float]) -> None:
        self.id = secrets.token_hex(16)
        self.kind, self.grace_s = kind, grace_s
        self.ended = False
        self._backend, self._clock = backend, clock
        self._beats, self._last_beat = 0, 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        backend: Backend,
        kind: str = WRITER,
        grace_s: float = GRACE_S,
        *,
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> Lease:
        """Open a lease. Whoever is silent for `grace_s` seconds, by the store's clock, may lose it."""
        lease = cls(backend, kind, grace_s, clock)
        lease._beat()
        if background:
            lease._thread = threading.Thread(target=lease._keep, name="thinwire-lease", daemon=True)
            lease._thread.start()
        return lease

    def heartbeat(self) -> None:
        """Tell the others that this lease's owner lives, if the last time is a while ago."""
        with self._lock:
            if not self.ended and self._clock() - self._last_beat >= self.grace_s / _BEATS_A_GRACE:
                self._beat()

    def commit(self) -> None:
        """End the lease well: this makes what was published under it count.

        Raises StoreError where a collector has revoked it, or where the answer was lost.
        """
        if self._end(COMMITTED) != COMMITTED:
            raise StoreError(
                f"{ENDS}{self.id}: this writer was silent for longer than its grace time of {self.grace_s:g} "
                "s, and a collector has revoked its lease; nothing of it counts: write again"
            )

    def abandon(self) -> None:
        """End the lease badly: nothing that was published under it will ever count."""
        self._end(REVOKED)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ended:
            return
        if error is None:
            self.abandon()
        else:
            with contextlib.suppress(StoreError):  # what went wrong first is what the caller must hear
                self.abandon()

    def _end(self, state: str) -> str:
        """Try to end the lease so; how it ended."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()  # no heartbeat comes after the end, to lie about for ever
        with self._lock:
            self.ended = True
        return end_lease(self._backend, self.id, state)

    def _keep(self) -> None:
        while not self._stop.wait(self.grace_s / _BEATS_A_GRACE):
            with contextlib.suppress(StoreError):  # the next one may come through; if none does, commit tells
                self.heartbeat()

    def _beat(self) -> None:
        note = {"kind": self.kind, "grace_s": self.grace_s, "host": socket.gethostname(), "pid": os.getpid()}
        self._last_beat = self._clock()
        self._beats += 1  # first: after an error the number may be taken
        self._backend.create(f"{LEASES}{self.id}.{self._beats}", [json.dumps(note).encode()])


class OpenLease(NamedTuple):
    """A lease that has not ended, as others see it."""

    id: str
    newest: str  # path of the newest heartbeat
    kind: str
    grace_s: float
    owner: str

    def silence(self, backend: Backend) -> float:
        """Seconds since the newest heartbeat, by the store's clock. Raises NotFound."""
        return backend.age(self.newest)


def open_leases(backend: Backend) -> list[OpenLease]:
    """The leases that have not ended."""
    newest: dict[str, int] = {}
    for path in heartbeats(backend):
        lease, beat = _parse(path)
        newest[lease] = max(beat, newest.get(lease, 0))
    ended = set(ended_leases(backend))  # after the heartbeats: a lease that was removed in between has ended
    found = []
    for lease, beat in newest.items():
        if lease not in ended:
            with contextlib.suppress(NotFound):  # ended and removed just now
                found.append(_look_at(backend, lease, f"{LEASES}{lease}.{beat}"))
    return found


def heartbeats(backend: Backend) -> list[str]:
    """The paths of all heartbeats."""
    return [entry.path for entry in backend.list(LEASES)]


def lease_of_heartbeat(path: str) -> str:
    """The lease that a heartbeat belongs to."""
    return _parse(path)[0]


def ended_leases(backend: Backend) -> list[str]:
    """The leases whose end is known."""
    return [entry.path.removeprefix(ENDS) for entry in backend.list(ENDS)]


def end_lease(backend: Backend, lease: str, state: str) -> str:
    """End a lease unless it has ended; the state in which it is then."""
    path = ENDS + lease
    try:
        backend.create(path, [state.encode()])
        return state
    except Conflict:
        return state_of_lease(backend, lease) or REVOKED


def state_of_lease(backend: Backend, lease: str) -> str | None:
    """COMMITTED or REVOKED, or None while the lease is open."""
    try:
        state = backend.read(ENDS + lease).decode("ascii", "replace")
    except NotFound:
        return None
    if state not in (COMMITTED, REVOKED):
        raise StoreError(
            f"{ENDS}{lease} is damaged: it says {state[:20]!r}; take it from a copy of the store"
        )
    return state


def condemned_packs(backend: Backend, but: str | None = None) -> set[bytes]:
    """The packs that collectors may delete at any moment; without those of the collector `but`."""
    doomed: set[bytes] = set()
    for entry in list(backend.list(CONDEMNED)):
        if entry.path != f"{CONDEMNED}{but}":
            doomed |= read_condemned(backend, entry.path)
    return doomed


def condemn(backend: Backend, collector: str, packs: Iterable[bytes]) -> str:
    """Say which packs a collector may delete; the path where it stands."""
    path = CONDEMNED + collector
    backend.create(path, [checked.encode(path, {"packs": sorted(pack.hex() for pack in packs)})])
    return path


def read_condemned(backend: Backend, path: str) -> set[bytes]:
    """The packs of one collector; none where it has finished meanwhile."""
    try:
        data = backend.read(path)
    except NotFound:
        return set()
    content = checked.decode(path, data, "delete it when no collector is at work")
    return {bytes.fromhex(pack) for pack in content["packs"]}


def present_packs(backend: Backend) -> dict[bytes, Entry]:
    """The packs that are there."""
    entries = ((entry, _PACK.fullmatch(entry.path)) for entry in backend.list(PACKS))
    return {bytes.fromhex(match[1]): entry for entry, match in entries if match}


def usable_packs(backend: Backend) -> set[bytes]:
    """The packs that a writer whose lease is open may count on: they stay until the lease has ended."""
    # Before the packs: what a collector has deleted by now must not be listed.
    doomed = condemned_packs(backend)
    return set(present_packs(backend)) - doomed


def _parse(path: str) -> tuple[str, int]:
    lease, _, beat = path.removeprefix(LEASES).rpartition(".")
    try:
        return lease, int(beat)
    except ValueError:
        raise StoreError(f"{path} is no heartbeat; delete it, it does not belong to the store") from None


def _look_at(backend: Backend, lease: str, newest: str) -> OpenLease:
    note: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        note = json.loads(backend.read(newest))
    try:
        owner = f"process {int(note['pid'])} on {note['host']}"
        return OpenLease(lease, newest, str(note["kind"]), float(note["grace_s"]), owner)
    except (ValueError, KeyError, TypeError):  # damaged: wait for it as for a writer
        return OpenLease(lease, newest, WRITER, GRACE_S, "an unknown process")
