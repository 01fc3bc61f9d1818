"""Packs: written, walked through, and damaged at every byte."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion
from thinwire.store import coding, pack
from thinwire.store.sealing import Keys, Plain, create_keys

CHUNKS = [b"a" * n + bytes(range(7)) for n in (1, 50, 57, 58, 300)]


@pytest.fixture(params=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys:
    if request.param == "plain":
        return Plain()
    return create_keys("store", b"0123456789abcdef", None)[1]


def make_pack(keys: Keys, chunks: list[bytes] = CHUNKS) -> tuple[pack.Pack, bytes]:
    writer = pack.PackWriter(keys)
    first = writer.reserve(len(chunks))
    assert first == 0
    made = writer.finish(
        writer.seal(i, _core.blake3(chunk, keys.id_key), len(chunk), coding.encode(memoryview(chunk), 3))
        for i, chunk in enumerate(chunks)
    )
    data = b"".join(made.parts)
    assert len(data) == made.size
    return made, data


def read_chunk(keys: Keys, salt: bytes, record: pack.Record, data: bytes) -> bytes:
    cipher = keys.cipher(salt, pack.PURPOSE) if keys.encrypted else None
    payload = memoryview(data)[record.offset : record.offset + record.stored]
    out = bytearray(record.raw)
    coding.decode(record.coding, pack.open_payload(record, payload, cipher), memoryview(out))
    if _core.blake3(out, keys.id_key) != record.chunk:
        raise CorruptChunk("content")
    return bytes(out)


def test_a_walk_finds_what_was_written(keys: Keys) -> None:
    made, data = make_pack(keys)
    found = pack.scan(made.id, memoryview(data))
    assert (found.records, found.salt, found.encrypted) == (made.records, made.salt, keys.encrypted)
    assert not found.damage
    assert [read_chunk(keys, made.salt, record, data) for record in found.records] == CHUNKS
    assert all((record.offset - pack.RECORD_BYTES) % pack.ALIGNMENT == 0 for record in found.records)


def test_equal_content_makes_another_pack_every_time(keys: Keys) -> None:
    assert make_pack(keys)[0].id != make_pack(keys)[0].id


def test_ids_of_an_encrypted_store_depend_on_its_key() -> None:
    one, other = (create_keys("store", b"0123456789abcdef", None)[1] for _ in range(2))
    plain = _core.blake3(b"chunk")
    assert len({plain, _core.blake3(b"chunk", one.id_key), _core.blake3(b"chunk", other.id_key)}) == 3


def test_every_flipped_bit_is_found_and_harms_one_chunk_at_most(keys: Keys) -> None:
    made, data = make_pack(keys)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        found = pack.scan(made.id, memoryview(changed))
        sound = set()
        for record in made.records:  # as the index knows them
            with contextlib.suppress(CorruptChunk):
                sound.add(read_chunk(keys, made.salt, record, bytes(changed)))
        # A few bits of a zstd frame mean nothing; flipping them does no harm, which is all that can be seen.
        spare = any(r.coding and r.offset <= at < r.offset + r.stored for r in made.records)
        assert found.damage or len(sound) < len(CHUNKS) or (spare and not keys.encrypted), f"byte {at}"
        assert len(sound) >= len(CHUNKS) - 1, f"byte {at}"
        assert len(found.records) >= len(CHUNKS) - 1, f"byte {at}"


def test_every_truncation_is_found(keys: Keys) -> None:
    made, data = make_pack(keys)
    for end in range(len(data)):
        found = pack.scan(made.id, memoryview(data)[:end])
        padding = end >= made.records[-1].offset + made.records[-1].stored
        assert found.damage or padding, end
        assert set(found.records) <= set(made.records)


def test_a_walk_goes_on_behind_damage() -> None:
    made, data = make_pack(Plain())
    changed = bytearray(data)
    begin = made.records[1].offset - pack.RECORD_BYTES
    changed[begin : begin + pack.RECORD_BYTES] = np.random.default_rng(0).bytes(pack.RECORD_BYTES)
    found = pack.scan(made.id, memoryview(changed))
    assert [record.number for record in found.records] == [0, 2, 3, 4]
    assert found.damage


@pytest.mark.parametrize("kept", [300, 1000, 10_000])  # of the inner pack's 20,000 bytes
def test_a_walk_behind_damage_loses_nothing_to_what_is_inside_a_payload(kept: int) -> None:
    rng = np.random.default_rng(1)
    _, inner = make_pack(Plain(), [rng.bytes(100), rng.bytes(20_000)])
    chunks = [rng.bytes(640) + inner[:kept], *(rng.bytes(n) for n in (1000, 7, 5000))]
    made, data = make_pack(Plain(), chunks)
    changed = bytearray(data)
    changed[made.records[0].offset - 1] ^= 1
    found = pack.scan(made.id, memoryview(changed))
    assert found.damage
    assert set(made.records[1:]) <= set(found.records)


def test_records_may_not_change_places_in_an_encrypted_pack() -> None:
    keys = create_keys("store", b"0123456789abcdef", None)[1]
    made, data = make_pack(keys, [b"a" * 100, b"b" * 100])
    one, other = made.records
    with pytest.raises(CorruptChunk):
        read_chunk(keys, made.salt, one._replace(offset=other.offset), data)
    with pytest.raises(CorruptChunk):
        read_chunk(keys, made.salt, one._replace(number=1), data)
    with pytest.raises(CorruptChunk):
        read_chunk(keys, b"x" * 32, one, data)


def test_nothing_of_an_encrypted_chunk_can_be_read() -> None:
    keys = create_keys("store", b"0123456789abcdef", None)[1]
    secret = b"correct horse battery staple" * 3
    _, data = make_pack(keys, [secret])
    assert secret[:16] not in data


def test_a_pack_of_a_later_release_is_named() -> None:
    made, data = make_pack(Plain())
    header = bytearray(data[: pack.HEADER_BYTES])
    header[4] = 2
    headers = [data[r.offset - pack.RECORD_BYTES : r.offset] for r in made.records]
    later = _core.blake3(b"".join([header, *headers]))
    with pytest.raises(FormatVersion, match="version 2"):
        pack.scan(later, memoryview(bytes(header) + data[pack.HEADER_BYTES :]))


def test_paths_lead_to_ids_and_back() -> None:
    made, _ = make_pack(Plain())
    path = pack.path_of(made.id)
    assert pack.pack_id_of(path) == made.id
    assert path.startswith(f"packs/{made.id.hex()[:2]}/")
    for other in ("packs/zz/zz", path + "00", path.replace("packs/", "packs/0"), "index/" + made.id.hex()):
        assert pack.pack_id_of(other) == b""
