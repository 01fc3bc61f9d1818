"""Mending a store: the index made again from the packs, what is damaged taken from replicas."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thinwire.errors import FormatVersion, StoreError
from thinwire.store import index as indexes
from thinwire.store import maintenance, pack
from thinwire.store.coding import DEFAULT_LEVEL
from thinwire.store.index import Chunks, Index, PackRow
from thinwire.store.leases import PACKS, Lease
from thinwire.store.maintenance import Report, Unreadable, distinct
from thinwire.store.manifest import Manifest
from thinwire.store.metering import Meter, Progress
from thinwire.store.pack import Record
from thinwire.store.packer import Packer
from thinwire.store.refs import Ref

if TYPE_CHECKING:
    from thinwire.store.store import Store


class Found(NamedTuple):
    """A pack as it was found: which of its chunks are sound, and whether all of it is."""

    path: str
    row: PackRow
    whole: bool


def repair(store: Store, progress: Progress | None = None) -> Report:
    """Make the index again, write anew what can be had, and report what is lost. One repair at a time."""
    with Lease.open(store.backend) as lease, _packer(store, lease) as packer:
        store.catalog.refresh()
        old_segments = store.catalog.segment_paths()
        rows, have = _keep_or_salvage(store, packer, _examine_all(store, lease, progress))
        counted = maintenance.census(store)
        found = list(_find_versions(store, counted.damage))
        _fetch_lost(store, packer, distinct([counted.chunks, *(made.chunks for _, made in found)]), have)
        with packer.drained() as written:
            store.catalog.publish(indexes.segment_of(rows + written))
        for ref, made in found:  # last, as writers do: who sees a version may rely on its chunks
            store.refs.replace(ref, lease, partial(store.catalog.write_manifest, made, ref.name))
        lease.commit()
    for path in old_segments:
        store.backend.delete(path)
    return maintenance.verify(store, deep=False)


def _packer(store: Store, lease: Lease) -> Packer:
    return Packer(store.backend, store.catalog.keys, store.workers, DEFAULT_LEVEL, lease.heartbeat)


def _examine_all(store: Store, lease: Lease, progress: Progress | None) -> list[Found]:
    index = store.catalog.index
    packs = list(store.backend.list(PACKS))
    meter = Meter(progress, sum(entry.size for entry in packs))
    found = []
    examined = store.workers.coders.map(lambda entry: _examine(store, index, entry.path), packs)
    for entry, one in zip(packs, examined, strict=True):
        lease.heartbeat()
        meter.add(entry.size)
        if one:
            found.append(one)
    return found


def _examine(store: Store, index: Index, path: str) -> Found | None:
    """Check every record of a pack; those whose header is damaged the index may still know."""
    pack_id = pack.pack_id_of(path)
    try:
        data = memoryview(store.backend.read(path))
    except StoreError:
        return None
    scanned = pack.scan(pack_id, data)
    salt, known = scanned.salt, _known_records(index, pack_id)
    if (row := index.row_of.get(pack_id)) is not None:
        salt = index.packs["salt"][row].tobytes()
    sound = [record for record in known if _is_sound(store, salt, record, data)]
    inside = _Spans(sound)
    # Behind a damaged header the scan goes on inside its payload, which may hold a pack of another store.
    others = (record for record in scanned.records if not inside.hold(record))
    sound += [record for record in others if _is_sound(store, salt, record, data)]
    whole = not scanned.damage and {record.offset for record in scanned.records} <= {
        record.offset for record in sound
    }
    return Found(path, PackRow(pack_id, salt, len(data), sound), whole)


def _known_records(index: Index, pack_id: bytes) -> list[Record]:
    """The records of a pack, as the index has them, by where they lie."""
    if (row := index.row_of.get(pack_id)) is None:
        return []
    return [index.record(position)[1] for position in index.of_pack(row).tolist()]


class _Spans:
    """Where records lie in their pack, header and payload. They are sorted, and none overlaps another."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._begins = [record.offset - pack.RECORD_BYTES for record in records]
        self._ends = [record.offset + record.stored for record in records]

    def hold(self, record: Record) -> bool:
        """Whether a record begins within one of them."""
        at = bisect.bisect_right(self._begins, record.offset - pack.RECORD_BYTES) - 1
        return at >= 0 and record.offset - pack.RECORD_BYTES < self._ends[at]


def _is_sound(store: Store, salt: bytes, record: Record, data: memoryview) -> bool:
    try:
        store.fetcher.decode(salt, record, data[record.offset : record.offset + record.stored])
        return True
    except FormatVersion:
        raise
    except StoreError:
        return False


def _keep_or_salvage(store: Store, packer: Packer, found: list[Found]) -> tuple[list[PackRow], set[bytes]]:
    """The rows of sound packs, and all chunks that are to be had.

    Sound chunks of the others go into new packs, unless they are elsewhere too.
    """
    rows = [one.row for one in found if one.whole]
    have = {record.chunk for row in rows for record in row.records}
    for one in found:
        missing = [record for record in one.row.records if record.chunk not in have]
        if one.whole or not missing:
            continue
        data = memoryview(store.backend.read(one.path))
        for record in missing:
            payload = data[record.offset : record.offset + record.stored]
            packer.put(record.chunk, store.fetcher.decode(one.row.salt, record, payload), None)
            have.add(record.chunk)
    return rows, have


def _fetch_lost(store: Store, packer: Packer, wanted: Chunks, have: set[bytes]) -> None:
    """Take from replicas what versions need and no pack has."""
    for replica in store.replicas:
        lost = wanted[[chunk.tobytes() not in have for chunk in wanted["id"]]]
        for chunk, data in replica.fetcher.sound(lost):
            packer.put(chunk, data, None)
            have.add(chunk)


def _find_versions(store: Store, lost: Sequence[Unreadable]) -> Iterator[tuple[Ref, Manifest]]:
    """The versions that replicas have of those whose ref or manifest is damaged."""
    for one in lost:
        for replica in store.replicas:
            with contextlib.suppress(StoreError):
                ref = replica.refs.resolve(f"{one.name}@{one.version}")
                yield ref, replica.catalog.manifest(ref)
                break
