"""The index: found again, also where keys collide, packs do not count or segments are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion
from thinwire.store import index as indexes
from thinwire.store.index import Index, PackRow, Segment
from thinwire.store.pack import Record


def chunk_id(number: int) -> bytes:
    return _core.blake3(number.to_bytes(8, "little"))


def row(name: int, chunks: list[bytes]) -> PackRow:
    records = [Record(i, chunk, 0, 100, 100, 128 + 192 * i) for i, chunk in enumerate(chunks)]
    return PackRow(chunk_id(10**9 + name), chunk_id(10**8 + name), 128 + 192 * len(chunks), records)


def as_ids(chunks: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(chunks), np.uint8).reshape(-1, 32)


CHUNKS = [chunk_id(i) for i in range(1000)]


def stored(segment: Segment) -> tuple[str, bytes]:
    name, data = indexes.encode(segment)
    return f"index/{name.hex()}", data


def test_a_segment_comes_back() -> None:
    segment = indexes.segment_of([row(0, CHUNKS[:600]), row(1, CHUNKS[600:]), row(2, [])])
    read = indexes.decode(*stored(segment))
    assert np.array_equal(read.packs, segment.packs)
    assert np.array_equal(read.entries, segment.entries)


def test_find_tells_places_and_what_is_not_there() -> None:
    index = Index([indexes.segment_of([row(0, CHUNKS[:600])]), indexes.segment_of([row(1, CHUNKS[600:900])])])
    found = index.find(as_ids(CHUNKS[::-1]))
    assert (found[:100] == -1).all()
    for chunk, position in zip(CHUNKS[::-1][100:], found[100:].tolist(), strict=True):
        pack, record = index.record(position)
        assert record.chunk == chunk
        assert pack == (CHUNKS.index(chunk) >= 600)
    assert len(index.find(as_ids([])[:0])) == 0
    assert Index().find(as_ids(CHUNKS[:3])).tolist() == [-1] * 3


def test_ids_that_share_their_first_bytes_are_told_apart() -> None:
    alike = [b"same key" + bytes([i]) * 24 for i in range(20)]
    index = Index([indexes.segment_of([row(0, alike[:19] + CHUNKS)])])
    found = index.find(as_ids(alike))
    assert [index.record(position)[1].chunk for position in found[:19].tolist()] == alike[:19]
    assert found[19] == -1


def test_packs_that_do_not_count_are_passed_over() -> None:
    index = Index([indexes.segment_of([row(0, CHUNKS[:10]), row(1, CHUNKS[5:15])])])
    ids = as_ids(CHUNKS[:15])
    assert (index.find(ids) >= 0).all()
    found = index.find(ids, np.array([False, True]))
    assert (found[:5] == -1).all()
    assert {index.record(position)[0] for position in found[5:].tolist()} == {1}
    assert sorted(index.record(int(p))[0] for p in index.places(CHUNKS[7])) == [0, 1]
    assert (index.find(ids, np.array([False, False])) == -1).all()


def test_a_pack_in_two_segments_counts_once() -> None:
    segment = indexes.segment_of([row(0, CHUNKS[:10])])
    index = Index([segment, indexes.segment_of([row(0, CHUNKS[:10]), row(1, CHUNKS[10:20])])])
    assert (len(index), len(index.packs)) == (20, 2)


def test_a_segment_of_some_packs() -> None:
    rows = [row(i, CHUNKS[10 * i : 10 * i + 10]) for i in range(5)]
    index = Index([indexes.segment_of(rows)])
    keep = np.array([False, True, False, True, False])
    left = Index([index.segment(keep)])
    assert list(left.row_of) == [rows[1].id, rows[3].id]
    found = left.find(as_ids(CHUNKS[:50]))
    assert np.flatnonzero(found >= 0).tolist() == [*range(10, 20), *range(30, 40)]
    assert left.record(int(found[35])) == (1, rows[3].records[5])


def test_equal_segments_never_have_the_same_id() -> None:
    segment = indexes.segment_of([row(0, CHUNKS[:10])])
    assert stored(segment)[0] != stored(segment)[0]


def test_every_changed_byte_and_every_truncation_is_found() -> None:
    path, data = stored(indexes.segment_of([row(0, CHUNKS[:2])]))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptChunk, match=path):
            indexes.decode(path, bytes(changed))
        with pytest.raises(CorruptChunk, match=path):
            indexes.decode(path, data[:at])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pack", 1),
        ("raw", (64 << 20) + 1),
        ("stored", 200),
        ("offset", 64),
        ("offset", 2**63),
        ("offset", 500),
    ],
)
def test_places_that_cannot_be_are_refused(field: str, value: int) -> None:
    segment = indexes.segment_of([row(0, CHUNKS[:2])])
    segment.entries[field][1] = value
    with pytest.raises(CorruptChunk, match="cannot be"):
        indexes.decode(*stored(segment))


def test_a_segment_of_a_later_release_is_named() -> None:
    _, data = stored(indexes.segment_of([row(0, CHUNKS[:2])]))
    later = bytearray(data)
    later[4] = 2
    with pytest.raises(FormatVersion, match="version 2"):
        indexes.decode(f"index/{_core.blake3(later).hex()}", bytes(later))


def test_a_million_chunks() -> None:
    ids = np.random.default_rng(0).integers(0, 256, (1_000_000, 32), np.uint8)
    segment = indexes.segment_of([row(0, [])])
    entries = np.zeros(len(ids), indexes.ENTRY)
    entries["id"] = ids
    index = Index([Segment(segment.packs, entries)])
    found = index.find(ids[::7])
    assert np.array_equal(index.entries["id"][found], ids[::7])
    assert (index.find(ids[:1000] ^ 1) == -1).all()
