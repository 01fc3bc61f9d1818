"""Frames: a header of 96 bytes and a payload (`docs/wire/frame.md`)."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass, replace

from ..errors import CorruptFrame, InvalidArgument
from .hashing import xxh3_64

MAGIC = b"TWIR"
VERSION = 1
HEADER = struct.Struct("<4sHHQQIIIIBBBxIdQQQ8xQ")
"""Magic, version, header_bytes, the fields of `Header`, the checksum; each `x` is a reserved byte."""
RESERVED = (slice(43, 44), slice(80, 88))
"""Where the reserved bytes are."""
CHECKSUM = struct.Struct("<Q")
CHECKED_BYTES = HEADER.size - CHECKSUM.size
"""The header's bytes before the checksum."""
PLAN = 255
"""Codec id of a frame that holds the segments of a plan."""
ABORTED, NONFINITE = 1, 2
"""The flags."""
ERROR_NUMBERS = {
    "InvalidArgument": 1,
    "CorruptFrame": 2,
    "TransportError": 3,
    "Timeout": 4,
    "ReplicaMismatch": 5,
    "other": 6,
}
"""What `param` says in an aborted frame."""


@dataclass(frozen=True)
class Header:
    """What a header says, in the order of the wire. All integers but `weight`, which is fp64."""

    group: int = 0
    step: int = 0
    bucket: int = 0
    slice: int = 0
    sender: int = 0
    param: int = 0
    codec: int = 0
    dtype: int = 0
    phase: int = 0
    flags: int = 0
    weight: float = 1.0
    control: int = 0
    count: int = 0
    payload_bytes: int = 0


def checksum(checked: bytes, payload: bytes) -> int:
    """Return the checksum of a header's first 88 bytes and a payload."""
    return xxh3_64(checked, seed=xxh3_64(payload))


def pack(header: Header, payload: bytes) -> bytes:
    """Return the frame; `payload_bytes` is taken from the payload."""
    fields = astuple(replace(header, payload_bytes=len(payload)))
    checked = HEADER.pack(MAGIC, VERSION, HEADER.size, *fields, 0)[:CHECKED_BYTES]
    return checked + CHECKSUM.pack(checksum(checked, payload)) + payload


def parse(frame: bytes) -> tuple[Header, bytes]:
    """Return header and payload of the frame at the start of `frame`; bytes after it are ignored.

    Raises InvalidArgument for another version, CorruptFrame for anything else that is wrong.
    """
    if len(frame) < HEADER.size:
        raise CorruptFrame(f"frame of {len(frame)} bytes, shorter than a header of {HEADER.size}")
    magic, version, header_bytes, *fields, stored = HEADER.unpack_from(frame)
    header = Header(*fields)
    if magic != MAGIC:
        raise CorruptFrame(f"magic {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise InvalidArgument(f"frame of wire version {version}, this is version {VERSION}")
    if header_bytes != HEADER.size:
        raise CorruptFrame(f"header_bytes {header_bytes}, expected {HEADER.size}")
    if any(any(frame[where]) for where in RESERVED):
        raise CorruptFrame("reserved fields are not 0")
    if header.flags & ~(ABORTED | NONFINITE):
        raise CorruptFrame(f"unknown flags {header.flags:#x}")
    if header.payload_bytes > len(frame) - HEADER.size:
        raise CorruptFrame(f"payload of {header.payload_bytes} bytes, {len(frame) - HEADER.size} are there")
    payload = bytes(frame[HEADER.size : HEADER.size + header.payload_bytes])
    if stored != checksum(bytes(frame[:CHECKED_BYTES]), payload):
        raise CorruptFrame("checksum does not match")
    return header, payload


def abort(header: Header, number: int, reason: str) -> bytes:
    """Return the aborted frame in place of one with `header`; `number` is one of `ERROR_NUMBERS`."""
    return pack(replace(header, flags=ABORTED, param=number, count=0), reason.encode())


def abort_reason(frame: bytes) -> tuple[int, str]:
    """Return the error's number and the reason of an aborted frame. Raises CorruptFrame for any other."""
    header, payload = parse(frame)
    if not header.flags & ABORTED:
        raise CorruptFrame("the frame is not an aborted one")
    return header.param, payload.decode(errors="replace")
