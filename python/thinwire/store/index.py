"""Which chunk lies where. Segments are what is stored, an Index is what is looked up.

An index is only a shortcut: it can be made again from the packs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion
from thinwire.store.coding import MOST_CHUNK_BYTES
from thinwire.store.pack import HEADER_BYTES, RECORD_BYTES, Record
from thinwire.store.sealing import TAG_BYTES, fresh_salt

VERSION = 1
_HEADER = struct.Struct("<4sHH32sIQ12x")
_MAGIC = b"TWIX"

CHUNK = np.dtype([("id", "u1", 32), ("size", "<u8")])
"""A chunk as manifests list it: its id, and its size in bytes."""
PACK = np.dtype([("id", "u1", 32), ("salt", "u1", 32), ("size", "<u8"), ("records", "<u4"), ("zero", "<u4")])
ENTRY = np.dtype(
    [
        ("id", "u1", 32),  # of the chunk
        ("offset", "<u8"),  # of the payload in its pack
        ("raw", "<u4"),  # bytes of the chunk
        ("stored", "<u4"),  # bytes of the payload
        ("number", "<u4"),  # of the record in its pack
        ("pack", "<u4"),  # row of the segment's packs
        ("coding", "u1"),
        ("zero", "u1", 7),
    ]
)
Chunks = np.ndarray[Any, np.dtype[np.void]]
Packs = np.ndarray[Any, np.dtype[np.void]]
Entries = np.ndarray[Any, np.dtype[np.void]]
Ids = np.ndarray[Any, np.dtype[np.uint8]]
Positions = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Segment:
    """`packs` of dtype PACK, and the `entries` (dtype ENTRY) of their records."""

    packs: Packs
    entries: Entries


@dataclass(frozen=True)
class PackRow:
    """What an index says of one pack."""

    id: bytes
    salt: bytes
    size: int
    records: Sequence[Record]


def segment_of(rows: Sequence[PackRow]) -> Segment:
    """The segment of these packs."""
    packs = np.zeros(len(rows), PACK)
    entries = np.zeros(sum(len(row.records) for row in rows), ENTRY)
    begin = 0
    for place, row in enumerate(rows):
        packs[place] = (_u8(row.id), _u8(row.salt), row.size, len(row.records), 0)
        part = entries[begin : begin + len(row.records)]
        begin += len(row.records)
        if not len(part):
            continue
        numbers, chunks, codings, raws, stored, offsets = zip(*row.records, strict=True)
        part["id"] = _u8(b"".join(chunks)).reshape(-1, 32)
        part["number"], part["coding"], part["raw"] = numbers, codings, raws
        part["stored"], part["offset"], part["pack"] = stored, offsets, place
    return Segment(packs, entries)


def encode(segment: Segment) -> tuple[bytes, bytes]:
    """A segment's id, and its bytes."""
    header = _HEADER.pack(_MAGIC, VERSION, 0, fresh_salt(), len(segment.packs), len(segment.entries))
    data = b"".join([header, segment.packs.tobytes(), segment.entries.tobytes()])
    return _core.blake3(data), data


def decode(path: str, data: bytes) -> Segment:
    """Read the segment at `path`. Raises CorruptChunk, or FormatVersion for one of a later release."""
    if _core.blake3(data).hex() != path.rpartition("/")[2]:
        raise CorruptChunk(f"{path} is damaged; run repair, which makes it again from the packs")
    magic, version, flags, _, packs, entries = _HEADER.unpack_from(data.ljust(_HEADER.size, b"\0"))
    if magic != _MAGIC or version != VERSION or flags:
        raise FormatVersion(f"{path} has version {version}, flags {flags:#x}; upgrade thinwire")
    if len(data) != _HEADER.size + packs * PACK.itemsize + entries * ENTRY.itemsize:
        raise CorruptChunk(f"{path} does not have the size its header says; run repair")
    segment = Segment(
        np.frombuffer(data, PACK, packs, _HEADER.size),
        np.frombuffer(data, ENTRY, entries, _HEADER.size + packs * PACK.itemsize),
    )
    if not _is_sound(segment):
        raise CorruptChunk(f"{path} names places that cannot be; run repair")
    return segment


def _is_sound(segment: Segment) -> bool:
    entries, packs = segment.entries, segment.packs
    if not len(entries):
        return True
    if int(entries["pack"].max()) >= len(packs):
        return False
    raw, stored = entries["raw"].astype(np.int64), entries["stored"].astype(np.int64)
    size = packs["size"][entries["pack"]]
    return bool(
        (raw <= MOST_CHUNK_BYTES).all()
        and (stored <= raw + TAG_BYTES).all()
        and (entries["offset"] >= HEADER_BYTES + RECORD_BYTES).all()
        and (entries["offset"] <= size).all()
        and (stored.astype(np.uint64) <= size - entries["offset"]).all()
    )


class Place(NamedTuple):
    """Where a chunk lies: the pack's id and salt, and the record in it."""

    pack: bytes
    salt: bytes
    record: Record


class Index:
    """All segments as one. Immutable: a store that learns of another segment makes a new one.

    Where two segments tell of the same pack, the first is believed. A chunk may lie in several packs.
    """

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        packs, entries, self.row_of = _merge(segments)
        order = np.argsort(_keys(entries["id"]), kind="stable")
        self.packs: Packs = packs
        self.entries: Entries = entries[order]
        self._keys = _keys(self.entries["id"])

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, ids: Ids, usable: Mask | None = None) -> Positions:
        """Where each chunk's entry is in `entries`, -1 for none. `ids` is uint8[n, 32].

        `usable`, a flag a pack, leaves out the entries of packs that do not count.
        """
        ids = np.ascontiguousarray(ids, dtype=np.uint8).reshape(-1, 32)
        found = np.full(len(ids), -1, np.int64)
        wanted = _keys(ids)
        at = np.searchsorted(self._keys, wanted)
        open_ = np.arange(len(ids))
        while len(open_):
            # Entries that share the key lie side by side: the next is looked at where this one is another's.
            inside = at[open_] < len(self._keys)
            open_ = open_[inside]
            open_ = open_[self._keys[at[open_]] == wanted[open_]]
            fits = (self.entries["id"][at[open_]] == ids[open_]).all(axis=1)
            if usable is not None:
                fits &= usable[self.entries["pack"][at[open_]]]
            found[open_[fits]] = at[open_[fits]]
            open_ = open_[~fits]
            at[open_] += 1
        return found

    def sized(self, ids: Ids) -> Chunks:
        """These chunks with their sizes; without those that the index does not know."""
        found = self.find(ids)
        chunks = np.zeros(int((found >= 0).sum()), CHUNK)
        chunks["id"], chunks["size"] = ids[found >= 0], self.entries["raw"][found[found >= 0]]
        return chunks

    def places(self, chunk: bytes) -> Positions:
        """Every entry of one chunk."""
        key = _keys(_u8(chunk).reshape(1, 32))[0]
        begin, end = np.searchsorted(self._keys, key), np.searchsorted(self._keys, key, side="right")
        fits = (self.entries["id"][begin:end] == _u8(chunk)).all(axis=1)
        found: Positions = np.flatnonzero(fits) + begin
        return found

    def of_pack(self, row: int) -> Positions:
        """The entries of the pack in this row, by where they lie in it."""
        order, begins = self._by_pack
        found: Positions = order[begins[row] : begins[row + 1]]
        return found

    @cached_property
    def _by_pack(self) -> tuple[Positions, Positions]:
        """All entries, pack by pack, and where each pack's begin."""
        order = np.lexsort((self.entries["offset"], self.entries["pack"]))
        return order, np.searchsorted(self.entries["pack"][order], np.arange(len(self.packs) + 1))

    def segment(self, keep: Mask) -> Segment:
        """One segment of the packs that are flagged."""
        rows = np.cumsum(keep) - 1
        entries = self.entries[keep[self.entries["pack"]]].copy()
        entries["pack"] = rows[entries["pack"]]
        return Segment(self.packs[keep], entries)

    def each_place(self, chunk: bytes) -> Iterator[Place]:
        """Every place of one chunk."""
        for position in self.places(chunk).tolist():
            row, record = self.record(position)
            yield Place(self.packs["id"][row].tobytes(), self.packs["salt"][row].tobytes(), record)

    def record(self, position: int) -> tuple[int, Record]:
        """The row of the pack, and the record, of one entry."""
        entry = self.entries[position]
        return int(entry["pack"]), Record(
            int(entry["number"]),
            entry["id"].tobytes(),
            int(entry["coding"]),
            int(entry["raw"]),
            int(entry["stored"]),
            int(entry["offset"]),
        )


def _merge(segments: Iterable[Segment]) -> tuple[Packs, Entries, dict[bytes, int]]:
    row_of: dict[bytes, int] = {}
    packs, entries = [np.zeros(0, PACK)], [np.zeros(0, ENTRY)]
    for segment in segments:
        rows = np.full(len(segment.packs), -1, np.int64)
        for place, pack in enumerate(segment.packs["id"]):
            if (name := pack.tobytes()) not in row_of:
                rows[place] = row_of[name] = len(row_of)
        new = rows >= 0
        packs.append(segment.packs[new])
        kept = segment.entries[new[segment.entries["pack"]]].copy()
        kept["pack"] = rows[kept["pack"]]
        entries.append(kept)
    return np.concatenate(packs), np.concatenate(entries), row_of


def _keys(ids: Ids) -> np.ndarray[Any, np.dtype[np.uint64]]:
    first = np.ascontiguousarray(ids.reshape(-1, 32)[:, :8])
    return np.frombuffer(first, "<u8")


def _u8(data: bytes) -> Ids:
    return np.frombuffer(data, np.uint8)
