"""Garbage collection beside writers and other collectors: what no version needs is deleted, and nothing else.

A collector says which packs it means to delete, and makes that durable. From then on no new lease builds on
them; the leases that were open before are waited for. Then it looks at everything again, and of those packs
it deletes the ones of which everything that is needed stands in a pack that no collector means to delete.
docs/store/collecting.md says why this is safe.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from thinwire.errors import Conflict, NotFound, StoreError
from thinwire.store import leases
from thinwire.store.backend import Backend, Entry, is_no_space
from thinwire.store.leases import Lease, OpenLease
from thinwire.store.refs import Ref, Refs
from thinwire.store.survey import Census, Ids, Plan, Survey, union

MANIFESTS = "manifests/"
LIVE_SHARE = 0.5
POLL_S = 1.0

_log = logging.getLogger(__name__)
_LEFTOVER_S = 24 * 3600.0  # when temporary files are nobody's any more


class Contents(Protocol):
    """What a collector asks about chunks, and leaves to those who know how they are kept."""

    def chunks_of(self, ref: Ref) -> Ids:
        """The ids of the chunks of a version, from its manifest, verified. Raises NotFound, CorruptChunk."""
        ...

    def census(self) -> Census:
        """What the index says, read anew. Raises where a part of it cannot be read."""
        ...

    def rewrite(self, chunks: Ids, packs: Sequence[bytes], heartbeat: Callable[[], None]) -> None:
        """Copy chunks out of packs into new packs, and publish where they are. Damaged ones are left out."""
        ...

    def forget(self, packs: AbstractSet[bytes]) -> None:
        """Publish an index without these packs, then delete what of the old one named them."""
        ...


@dataclass(frozen=True)
class Collected:
    """What a collection did. With `waiting_for`, it deleted nothing: these writers are still at work."""

    packs: int = 0
    bytes: int = 0
    rewritten: int = 0  # chunks that were copied out of packs that are mostly garbage
    manifests: int = 0
    refs: int = 0
    waiting_for: tuple[str, ...] = ()
    missing: int = 0  # chunks that versions need and the index does not know: run repair


def collect(
    backend: Backend,
    refs: Refs,
    contents: Contents,
    *,
    live_share: float = LIVE_SHARE,
    given_up: AbstractSet[bytes] = frozenset(),
    wait_s: float | None = None,
    grace_s: float = leases.GRACE_S,
    poll_s: float = POLL_S,
    background: bool = True,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Collected:
    """Delete what no version needs. Packs of whose bytes a smaller share than `live_share` is needed, and
    the packs `given_up` whatever they hold, are rewritten.

    Where there is no space for that, packs that are all garbage go, and the next collection does the rest;
    with `given_up` it is an error.

    Waits up to `wait_s` seconds (None: as long as it takes) for the writers at work, each until it ends or
    was silent for its own grace time; `grace_s` is the collector's. Raises Conflict while another collector
    is at work, and whatever makes it impossible to know what is needed: then nothing is deleted.
    """
    _refuse_company(backend)
    lease = Lease.open(backend, leases.COLLECTOR, grace_s, background=background, clock=clock)
    try:
        pause = _Pause(lease, poll_s, wait_s, sleep, clock)
        done = _Collection(backend, refs, contents, lease, pause).run(live_share, given_up)
        backend.tidy(_LEFTOVER_S)
        return done
    finally:
        _leave(backend, lease)


class _Pause:
    """The time between two looks at the writers."""

    def __init__(
        self,
        lease: Lease,
        poll_s: float,
        wait_s: float | None,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._lease, self._poll_s, self._sleep, self._clock = lease, poll_s, sleep, clock
        self._end = None if wait_s is None else clock() + wait_s

    def __call__(self) -> bool:
        """Sleep; False where the time is up."""
        if self._end is not None and self._clock() >= self._end:
            return False
        self._sleep(self._poll_s)
        self._lease.heartbeat()
        return True


class _Look(NamedTuple):
    """What a collector saw, in this order: everything that a later part relies on was read before it."""

    # Leases; before the versions, so that those of every lease that ended well are among them.
    ended: set[str]
    # Versions that count, or may yet.
    living: list[Ref]
    # Versions that never will, as `Refs.remove` takes them, whose number a greater one keeps taken.
    dead: list[tuple[str, int, int]]
    present: dict[bytes, Entry]
    survey: Survey

    @property
    def manifests(self) -> set[str]:
        return {ref.manifest for ref in self.living}


class _Collection:
    """One run of a collector that holds a lease."""

    def __init__(self, backend: Backend, refs: Refs, contents: Contents, lease: Lease, pause: _Pause) -> None:
        self._backend, self._refs, self._contents = backend, refs, contents
        self._lease, self._pause = lease, pause

    def run(self, live_share: float, given_up: AbstractSet[bytes]) -> Collected:
        # All that may be deleted is listed before the writers are: whoever could still need it is among them.
        manifests = self._manifests()
        look = self._look()
        unused, dead = manifests - look.manifests, look.dead
        plan = look.survey.plan(live_share, given_up)
        if not self._rewrite(plan, must=bool(given_up)):
            _log.warning("no space to copy from packs that are mostly garbage: only what is all garbage goes")
            look = self._look()
            plan = look.survey.plan(live_share=0)
            if not self._rewrite(plan):  # only what lies in packs of other collectors
                plan = plan._replace(chunks=plan.chunks[:0])  # their packs stay as long as they are needed
        if not (plan.packs or unused or dead):
            self._clear_up(look)
            return Collected(missing=look.survey.missing)
        condemned = leases.condemn(self._backend, self._lease.id, plan.packs)
        try:
            late = self._wait_for_writers()
            look = self._look() if not late else look
        except BaseException:
            self._backend.delete(condemned)  # nothing was deleted, and nothing will be
            raise
        if late:
            self._backend.delete(condemned)
            return Collected(waiting_for=tuple(sorted(late)), missing=look.survey.missing)
        packs = look.survey.deletable(plan.packs)
        self._delete_packs(packs, look)  # where it fails they stay condemned: a deletion may be on its way
        self._backend.delete(condemned)
        unused -= look.manifests
        for manifest in sorted(unused):
            self._delete(MANIFESTS + manifest)
        for version in dead:
            self._refs.remove(*version)
        self._clear_up(look)
        return Collected(
            packs=len(packs),
            bytes=sum(look.present[pack].size for pack in packs),
            rewritten=len(plan.chunks),
            manifests=len(unused),
            refs=len(dead),
            missing=look.survey.missing,
        )

    def _rewrite(self, plan: Plan, must: bool = False) -> bool:
        """Copy what a plan wants copied; False where there is no space for that, an error if it `must` be."""
        try:
            if len(plan.chunks):
                self._contents.rewrite(plan.chunks, plan.sources, self._lease.heartbeat)
            return True
        except StoreError as error:
            if must or not is_no_space(error):
                raise
            return False

    def _manifests(self) -> set[str]:
        return {entry.path.removeprefix(MANIFESTS) for entry in self._backend.list(MANIFESTS)}

    def _look(self) -> _Look:
        """Look at everything, first at what others condemned: who condemns later sees what this one did."""
        doomed = leases.condemned_packs(self._backend, but=self._lease.id)
        ended = set(leases.ended_leases(self._backend))
        living, dead = self._versions()
        live = union(self._chunks_of(living))
        census = self._contents.census()
        present = leases.present_packs(self._backend)
        return _Look(ended, living, dead, present, Survey(live, census, present.keys(), doomed))

    def _versions(self) -> tuple[list[Ref], list[tuple[str, int, int]]]:
        living, dead = [], []
        state = functools.cache(functools.partial(leases.state_of_lease, self._backend))
        for name, numbers in self._refs.numbers().items():
            for number in numbers.deleted.union(numbers.all):
                attempt = numbers.attempts.get(number, 0)
                ref = self._refs.find(name, number, attempt) if numbers.has(number) else None
                if ref is not None and state(ref.lease) != leases.REVOKED:
                    living.append(ref)
                elif number < numbers.newest:
                    dead.append((name, number, attempt))
        return living, dead

    def _chunks_of(self, versions: Iterable[Ref]) -> Iterator[Ids]:
        for ref in versions:
            self._lease.heartbeat()
            try:
                yield self._contents.chunks_of(ref)
            except NotFound:
                if self._refs.is_living(ref):
                    raise  # otherwise it was deleted meanwhile, and its manifest collected

    def _wait_for_writers(self) -> list[str]:
        """Wait for the leases that are open now, and revoke the silent; whom the time did not suffice for."""
        at_work = {lease.id for lease in leases.open_leases(self._backend) if lease.kind == leases.WRITER}
        while True:
            left = [lease for lease in leases.open_leases(self._backend) if lease.id in at_work]
            left = [lease for lease in left if not _revoke_if_silent(self._backend, lease)]
            if not left or not self._pause():
                return [lease.owner for lease in left]

    def _delete_packs(self, packs: AbstractSet[bytes], look: _Look) -> None:
        forgotten = not packs or self._forget(packs)
        for pack in sorted(packs):
            self._delete(look.present[pack].path)
        if not forgotten:  # an index may name packs that are gone, and now there is space
            self._contents.forget(packs)

    def _forget(self, packs: AbstractSet[bytes]) -> bool:
        """Whether there is space for an index without these packs."""
        try:
            self._contents.forget(packs)
            return True
        except StoreError as error:
            if not is_no_space(error):
                raise
            return False

    def _delete(self, path: str) -> None:
        self._lease.heartbeat()
        self._backend.delete(path)

    def _clear_up(self, look: _Look) -> None:
        """Remove what leases and collectors that have ended left behind."""
        for lease in leases.open_leases(self._backend):
            _revoke_if_silent(self._backend, lease)
        _remove_heartbeats(self._backend, look.ended)  # first: without its end a lease would seem to be open
        for ended in look.ended - {ref.lease for ref in look.living}:
            if leases.state_of_lease(self._backend, ended) == leases.COMMITTED:
                self._delete(leases.ENDS + ended)
        if look.survey.stale:
            self._contents.forget(look.survey.stale)
        for entry in list(self._backend.list(leases.CONDEMNED)):
            # Another collector may yet go on to delete these packs, unless none of them is left.
            packs = leases.read_condemned(self._backend, entry.path)
            if not packs & leases.present_packs(self._backend).keys():
                self._delete(entry.path)


def _refuse_company(backend: Backend) -> None:
    for lease in leases.open_leases(backend):
        if lease.kind == leases.COLLECTOR and not _revoke_if_silent(backend, lease):
            raise Conflict(
                f"{lease.owner} is collecting garbage in this store; let it finish, then try again"
            )


def _revoke_if_silent(backend: Backend, lease: OpenLease) -> bool:
    """Whether a lease has ended, if need be because it was silent for too long."""
    try:
        silent = lease.silence(backend) > lease.grace_s
    except NotFound:
        return False  # a newer heartbeat, or its end: the next look will tell
    if silent:
        leases.end_lease(backend, lease.id, leases.REVOKED)
    return silent


def _remove_heartbeats(backend: Backend, ended: AbstractSet[str]) -> None:
    for path in leases.heartbeats(backend):
        if leases.lease_of_heartbeat(path) in ended:
            backend.delete(path)


def _leave(backend: Backend, lease: Lease) -> None:
    """End a collector's lease without a trace: nothing was published under it."""
    steps: list[Callable[[], None]] = [
        lease.abandon,  # on a full disk this fails: then the heartbeats go without it
        lambda: _remove_heartbeats(backend, {lease.id}),
        lambda: backend.delete(leases.ENDS + lease.id),
    ]
    for step in steps:
        with contextlib.suppress(StoreError):  # the next collector takes away what is left
            step()
