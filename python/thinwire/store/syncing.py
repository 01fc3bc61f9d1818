"""Copying versions from one store to another: only the versions and the chunks that it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thinwire import _core
from thinwire._memory import allocate, batches
from thinwire.errors import Conflict, NotFound, StoreError
from thinwire.store.index import Chunks
from thinwire.store.leases import COMMITTED, end_lease
from thinwire.store.manifest import Manifest
from thinwire.store.metering import Meter, Progress
from thinwire.store.reader import BATCH_BYTES, Piece
from thinwire.store.refs import Ref
from thinwire.store.writer import Writer

if TYPE_CHECKING:
    from thinwire.store.store import Store

FLUSH_BYTES = 256 << 20  # what a cut-off copy has to send again, at most


@dataclass
class SyncReport:
    """What `sync` did; sizes in bytes. `conflicts` are versions that differ on the other side, or cannot be
    made there as it has, or had, later ones."""

    versions: int = 0
    sent: int = 0
    already_there: int = 0
    conflicts: list[str] = field(default_factory=list)


def sync(source: Store, target: Store, progress: Progress | None = None) -> SyncReport:
    """Copy to `target` all versions that it lacks, oldest first, each under its own number."""
    return _Sync(source, target, Meter(progress)).run()


class _Sync:
    """One run of `sync`."""

    def __init__(self, source: Store, target: Store, meter: Meter) -> None:
        self._source, self._target, self._meter = source, target, meter
        self._report = SyncReport()
        self._id_key = target.catalog.keys.id_key
        self._share_ids = source.catalog.keys.id_key == self._id_key  # equal chunks have equal ids in both

    def run(self) -> SyncReport:
        # A name is listed before those below it, and copied after them: at no time is there a checkpoint
        # without its ranks' parts, however this is cut off and whatever is saved meanwhile.
        wanted = {name: self._source.refs.versions(name) for name in sorted(self._source.refs.names(""))}
        for name in reversed(wanted):
            there = {ref.version: ref for ref in self._target.refs.versions(name)}
            for ref in wanted[name]:
                try:
                    self._take(ref, there.get(ref.version))
                except StoreError:
                    if self._source.refs.is_living(ref):
                        raise
                    # Deleted meanwhile, and collected: there is nothing to copy.
        return self._report

    def _take(self, ref: Ref, theirs: Ref | None) -> None:
        """See to it that the target has a version."""
        made = self._source.catalog.manifest(ref)
        if theirs is not None:
            if not self._is_same(ref, made, theirs):
                self._report.conflicts.append(_label(ref))
        elif not self._finish(ref, made) and self._source.refs.is_living(ref):
            try:
                self._target.refs.check_free(ref.name, ref.version)  # lest all of it is sent in vain
                self._copy(ref, made)
            except Conflict:
                if not self._finish(ref, made) and not self._was_made_meanwhile(ref, made):
                    self._report.conflicts.append(_label(ref))

    def _copy(self, ref: Ref, made: Manifest) -> None:
        with self._target.writer(ref.name) as writer:
            writer.meter = self._meter
            chunks = self._send(writer, ref, made)
            origin = made.origin if self._share_ids else _origin(self._source, ref)
            writer.commit(made.metadata, chunks, version=ref.version, origin=origin)
            self._report.versions += 1

    def _was_made_meanwhile(self, ref: Ref, made: Manifest) -> bool:
        """Whether another copy was faster; else the number was taken there, or deleted."""
        try:
            theirs = self._target.refs.resolve(_label(ref))
        except NotFound:
            return False
        return self._is_same(ref, made, theirs)

    def _finish(self, ref: Ref, made: Manifest) -> bool:
        """Commit what another copy, cut off or not, has done all but that for; whether it counts.

        Its version is written last, so nothing is missing, and whoever else commits it, does that once.
        """
        begun = self._target.refs.pending(ref.name, ref.version)
        if begun is None:
            return False
        found = self._manifest_there(begun)
        if found is None or not self._is_copy(ref, made, begun, found):
            return False
        if end_lease(self._target.backend, begun.lease, COMMITTED) != COMMITTED:
            return False
        self._report.versions += 1
        self._report.already_there += made.size
        return True

    def _manifest_there(self, theirs: Ref) -> Manifest | None:
        """A manifest of the target's; None where its version was deleted meanwhile, and collected."""
        try:
            return self._target.catalog.manifest(theirs)
        except StoreError:
            if self._target.refs.is_living(theirs):
                raise
            return None

    def _is_same(self, ref: Ref, made: Manifest, theirs: Ref) -> bool:
        found = self._manifest_there(theirs)
        if found is None:
            return False
        if self._is_copy(ref, made, theirs, found):
            return True
        return not self._share_ids and _alike(made, found) and self._has_content(ref, made, found)

    def _is_copy(self, ref: Ref, made: Manifest, theirs: Ref, found: Manifest) -> bool:
        """Whether a version is known to be this one, without a look at its content."""
        if not _alike(made, found):
            return False
        if self._share_ids:
            return np.array_equal(made.chunks["id"], found.chunks["id"])
        came_from_here = found.origin == _origin(self._source, ref)
        return came_from_here or made.origin == _origin(self._target, theirs)

    def _has_content(self, ref: Ref, made: Manifest, theirs: Manifest) -> bool:
        """Whether the chunks, which are of the same sizes, hold the same bytes. Reads all of them."""
        for rows in batches(made.chunks["size"], BATCH_BYTES):
            part = made.chunks[rows]
            ends = np.cumsum(part["size"], dtype=np.int64)
            ids = _core.blake3_blocks(self._read(part, ref), ends, self._id_key, self._target.workers.threads)
            if not np.array_equal(ids, theirs.chunks["id"][rows]):
                return False
        return True

    def _send(self, writer: Writer, ref: Ref, made: Manifest) -> Chunks:
        """Add the chunks that the other side lacks; the chunks as it calls them."""
        chunks: Chunks = made.chunks.copy()
        wanted = np.arange(len(chunks))
        if self._share_ids:
            wanted = np.flatnonzero(~writer.known(chunks["id"]))
            _, first = np.unique(chunks["id"][wanted], axis=0, return_index=True)
            wanted = wanted[np.sort(first)]
        before = writer.new_bytes
        unsent = 0
        for batch in batches(made.chunks["size"][wanted], BATCH_BYTES):
            rows = wanted[batch]
            part = made.chunks[rows]
            buffer = self._read(part, ref)
            chunks["id"][rows] = writer.add(buffer, np.cumsum(part["size"], dtype=np.int64))["id"]
            unsent += len(buffer)
            if unsent >= FLUSH_BYTES:
                writer.flush()
                unsent = 0
        self._report.sent += writer.new_bytes - before
        self._report.already_there += made.size - (writer.new_bytes - before)
        return chunks

    def _read(self, chunks: Chunks, ref: Ref) -> memoryview:
        buffer = allocate(int(chunks["size"].sum()))
        self._source.fetcher.fetch([Piece(chunks, buffer, 0)], _label(ref))
        return buffer


def _label(ref: Ref) -> str:
    return f"{ref.name}@{ref.version}"


def _origin(store: Store, ref: Ref) -> dict[str, str]:
    return {"store": store.config["id"], "manifest": ref.manifest}


def _alike(one: Manifest, other: Manifest) -> bool:
    """Whether two versions may be the same, by all but their content."""
    return one.metadata == other.metadata and np.array_equal(one.chunks["size"], other.chunks["size"])
