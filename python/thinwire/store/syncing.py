"""Copying versions from one store to another: only the versions and the chunks that it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thinwire._memory import allocate, batches
from thinwire.errors import Conflict, NotFound
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
    report = SyncReport()
    meter = Meter(progress)
    for name in sorted(source.refs.names("")):
        for ref in source.refs.versions(name):
            _copy(source, target, ref, report, meter)
    return report


def _copy(source: Store, target: Store, ref: Ref, report: SyncReport, meter: Meter) -> None:
    made = source.catalog.manifest(ref)
    label = f"{ref.name}@{ref.version}"
    try:
        theirs = target.catalog.manifest(target.refs.resolve(label))
    except NotFound:
        pass
    else:
        if not _is_same(source, target, made, theirs):
            report.conflicts.append(label)
        return
    if _finish(source, target, made, target.refs.pending(ref.name, ref.version)):
        report.versions += 1
        report.already_there += made.size
        return
    with target.writer(ref.name) as writer:
        writer.meter = meter
        chunks = _send(source, target, writer, made, label, report)
        try:
            writer.commit(made.metadata, chunks, version=ref.version)
            report.versions += 1
        except Conflict:  # written meanwhile, or deleted there
            report.conflicts.append(label)


def _finish(source: Store, target: Store, made: Manifest, begun: Ref | None) -> bool:
    """Commit what a copy that was cut off had done all but that for; whether it counts now.

    Its version is written last, so nothing is missing, and whoever else commits it, does that once.
    """
    if begun is None or not _is_same(source, target, made, target.catalog.manifest(begun)):
        return False
    return end_lease(target.backend, begun.lease, COMMITTED) == COMMITTED


def _is_same(source: Store, target: Store, made: Manifest, theirs: Manifest) -> bool:
    if made.metadata != theirs.metadata or not np.array_equal(made.chunks["size"], theirs.chunks["size"]):
        return False
    same = np.array_equal(made.chunks["id"], theirs.chunks["id"])
    return bool(same) or not _share_ids(source, target)


def _share_ids(source: Store, target: Store) -> bool:
    """Whether equal chunks have equal ids in both."""
    return source.catalog.keys.id_key == target.catalog.keys.id_key


def _send(
    source: Store, target: Store, writer: Writer, made: Manifest, label: str, report: SyncReport
) -> Chunks:
    """Add the chunks that the other side lacks; the chunks as it calls them."""
    chunks: Chunks = made.chunks.copy()
    wanted = np.arange(len(chunks))
    if _share_ids(source, target):
        wanted = np.flatnonzero(~writer.known(chunks["id"]))
        _, first = np.unique(chunks["id"][wanted], axis=0, return_index=True)
        wanted = wanted[np.sort(first)]
    before = writer.new_bytes
    unsent = 0
    for batch in batches(made.chunks["size"][wanted], BATCH_BYTES):
        rows = wanted[batch]
        part = made.chunks[rows]
        buffer = allocate(int(part["size"].sum()))
        source.fetcher.fetch([Piece(part, buffer, 0)], label)
        chunks["id"][rows] = writer.add(buffer, np.cumsum(part["size"], dtype=np.int64))["id"]
        unsent += len(buffer)
        if unsent >= FLUSH_BYTES:
            writer.flush()
            unsent = 0
    report.sent += writer.new_bytes - before
    report.already_there += made.size - (writer.new_bytes - before)
    return chunks
