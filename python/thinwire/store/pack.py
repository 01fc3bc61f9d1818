"""Packs: chunks one after the other, each behind a header that tells all of it (docs/store/format.md).

A pack can be read without any index: its records are found by walking from header to header.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thinwire import _core
from thinwire.errors import FormatVersion
from thinwire.store.coding import MOST_CHUNK_BYTES, Buffer, Coded
from thinwire.store.sealing import SALT_BYTES, TAG_BYTES, Cipher, Keys, decrypt, fresh_salt, nonce

VERSION = 1
ENCRYPTED = 1  # the only flag
TARGET_BYTES = 64 << 20
ALIGNMENT = 64
ID_BYTES = 32
PURPOSE = "thinwire pack"

_HEADER = struct.Struct("<4sHH32s24x")
_RECORD = struct.Struct("<4sBBHIII32sI")
_CHECK = struct.Struct("<Q")
_PACK_MAGIC, _RECORD_MAGIC = b"TWPK", b"TWCH"
HEADER_BYTES = _HEADER.size
RECORD_BYTES = _RECORD.size + _CHECK.size


class Record(NamedTuple):
    """One chunk in a pack. `offset` is where the payload begins; sizes in bytes."""

    number: int
    chunk: bytes
    coding: int
    raw: int
    stored: int
    offset: int


class SealedRecord(NamedTuple):
    """A record that only waits for its place."""

    header: bytes
    parts: list[Buffer]
    chunk: bytes
    coding: int
    raw: int
    stored: int


@dataclass(frozen=True)
class Pack:
    """A whole pack: `parts` one after the other are the object, `size` bytes."""

    id: bytes
    salt: bytes
    parts: list[Buffer]
    size: int
    records: list[Record]


def path_of(pack_id: bytes) -> str:
    """Where a pack lies."""
    name = pack_id.hex()
    return f"packs/{name[:2]}/{name}"


def record_header(number: int, chunk: bytes, coding: int, raw: int, stored: int) -> bytes:
    """The header of a record, with its own check sum: `raw` and `stored` bytes before and after coding."""
    plain = _RECORD.pack(_RECORD_MAGIC, coding, 0, 0, number, raw, stored, chunk, 0)
    return plain + _CHECK.pack(_core.xxh3_64(plain))


class PackWriter:
    """Seals records on any thread, then lays them in order. `keys` are the store's."""

    def __init__(self, keys: Keys) -> None:
        self.salt = fresh_salt()
        self._cipher = keys.cipher(self.salt, PURPOSE) if keys.encrypted else None
        self._reserved = 0
        self._lock = threading.Lock()

    def reserve(self, count: int) -> int:
        """The number of the first of `count` records to come. A number is a nonce: it is used once."""
        with self._lock:
            first = self._reserved
            self._reserved += count
            return first

    def seal(self, number: int, chunk: bytes, raw: int, coded: Coded) -> SealedRecord:
        """One record: encrypted where the store is."""
        stored = coded.size + (TAG_BYTES if self._cipher else 0)
        header = record_header(number, chunk, coded.coding, raw, stored)
        parts = list(coded.parts)
        if self._cipher:
            parts = [self._cipher.encrypt(nonce(number), b"".join(parts), header)]
        return SealedRecord(header, parts, chunk, coded.coding, raw, stored)

    def finish(self, sealed: Iterable[SealedRecord]) -> Pack:
        """The pack of these records, which are all that were reserved, in the order of their numbers."""
        header = _HEADER.pack(_PACK_MAGIC, VERSION, ENCRYPTED if self._cipher else 0, self.salt)
        parts: list[Buffer] = [header]
        headers, records, size = [header], [], len(header)
        for number, one in enumerate(sealed):
            parts += [one.header, *one.parts]
            offset = size + RECORD_BYTES
            padding = -one.stored % ALIGNMENT
            if padding:
                parts.append(bytes(padding))
            headers.append(one.header)
            records.append(Record(number, one.chunk, one.coding, one.raw, one.stored, offset))
            size = offset + one.stored + padding
        return Pack(_core.blake3(b"".join(headers)), self.salt, parts, size, records)


def open_payload(record: Record, payload: memoryview, cipher: Cipher | None) -> memoryview:
    """The coded bytes of a record: decrypted where there is a cipher. Raises CorruptChunk."""
    if cipher is None:
        return payload
    header = record_header(record.number, record.chunk, record.coding, record.raw, record.stored)
    return memoryview(decrypt(cipher, record.number, payload, header, "it"))


@dataclass(frozen=True)
class Scan:
    """What a walk through a pack found. `damage` says in words what does not fit; empty for a sound pack."""

    salt: bytes
    encrypted: bool
    records: list[Record]
    damage: list[str]


def scan(pack_id: bytes, data: memoryview) -> Scan:
    """Walk through a whole pack. Goes on behind damage, at the next header that is sound.

    Payloads are not looked at. Raises FormatVersion for a pack of a later release.
    """
    damage: list[str] = []
    header = bytes(data[:HEADER_BYTES])
    magic, version, flags, salt = _HEADER.unpack(header.ljust(HEADER_BYTES, b"\0"))
    if magic != _PACK_MAGIC:
        damage.append("its header is damaged")
    elif version != VERSION or flags & ~ENCRYPTED:
        if _core.blake3(b"".join([header, *_headers_at(data)])) == pack_id:
            raise FormatVersion(
                f"{path_of(pack_id)} has version {version}, flags {flags:#x}; upgrade thinwire"
            )
        damage.append("its header is damaged")
    records = []
    headers, end = [header], HEADER_BYTES
    for record in walk(data):
        begin = record.offset - RECORD_BYTES
        if any(data[end:begin]):
            damage.append(f"bytes {end} to {begin} are no record")
        headers.append(bytes(data[begin : record.offset]))
        end = record.offset + record.stored
        if end > len(data):
            damage.append(f"it ends within record {record.number}")
        else:
            records.append(record)
    if any(data[end:]):
        damage.append(f"bytes from {end} on are no record")
    if not damage and _core.blake3(b"".join(headers)) != pack_id:
        damage.append("records are missing, or its header is damaged")
    return Scan(salt, bool(flags & ENCRYPTED), records, damage)


def _headers_at(data: memoryview) -> Iterator[bytes]:
    for record in walk(data):
        yield bytes(data[record.offset - RECORD_BYTES : record.offset])


def walk(data: memoryview) -> Iterator[Record]:
    """The records of a pack whose headers are sound, in order.

    Behind damage also what looks like one inside a payload, which may hold another pack, or a part of one.
    """
    at, damaged = HEADER_BYTES, False
    while at + RECORD_BYTES <= len(data):
        record = _record_at(data, at)
        if record is None:
            at, damaged = _next_magic(data, at + ALIGNMENT), True
            continue
        yield record
        end = record.offset + record.stored + -record.stored % ALIGNMENT
        if damaged and end != len(data) and _record_at(data, end) is None:
            at = _next_magic(data, at + ALIGNMENT)  # it may end beyond the payload that it is in
        else:
            at = end


def _record_at(data: memoryview, at: int) -> Record | None:
    header = data[at : at + RECORD_BYTES]
    return _parse(header, at + RECORD_BYTES) if len(header) == RECORD_BYTES else None


def _next_magic(data: memoryview, at: int) -> int:
    """The next aligned place where a record's magic stands."""
    words = np.frombuffer(data[at : len(data) - len(data[at:]) % ALIGNMENT], dtype="<u4")[:: ALIGNMENT // 4]
    hits = np.flatnonzero(words == int.from_bytes(_RECORD_MAGIC, "little"))
    return at + ALIGNMENT * int(hits[0]) if len(hits) else len(data)


def _parse(header: memoryview, offset: int) -> Record | None:
    plain = header[: _RECORD.size]
    if (_core.xxh3_64(plain),) != _CHECK.unpack(header[_RECORD.size :]):
        return None
    magic, coding, flags, zero, number, raw, stored, chunk, spare = _RECORD.unpack(plain)
    if magic != _RECORD_MAGIC or raw > MOST_CHUNK_BYTES or stored > raw + TAG_BYTES:
        return None
    if flags or zero or spare:
        raise FormatVersion(
            f"a record has flags {flags:#x} that this release does not know; upgrade thinwire"
        )
    return Record(number, chunk, coding, raw, stored, offset)


def pack_id_of(path: str) -> bytes:
    """The id out of a pack's path; of ID_BYTES bytes, or empty where the path is none of a pack."""
    name = path.rpartition("/")[2]
    try:
        found = bytes.fromhex(name)
    except ValueError:
        return b""
    return found if len(found) == ID_BYTES and path == path_of(found) else b""


assert HEADER_BYTES == RECORD_BYTES == ALIGNMENT
assert SALT_BYTES == ID_BYTES
