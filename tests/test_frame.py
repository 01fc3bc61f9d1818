"""Frames: the bytes of a header, and every way in which a frame can be wrong. Native and reference alike."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vectors.formula
from core_calls import decode, encode, single, spec
from support import BF16, FP16, FP32, HEADER_BYTES, Guarded, junk
from thinwire import _core
from thinwire.errors import CorruptFrame, InvalidArgument
from thinwire.reference import frame
from vectors.formula import values

PAGE = Path(__file__).parent.parent / "docs" / "wire" / "frame.md"
TAG = {
    "group": 0x0102030405060708,
    "step": 0x1112131415161718,
    "bucket": 0x21222324,
    "slice": 0x31323334,
    "sender": 0x41424344,
    "phase": 2,
    "weight": -0.125,
    "control": 0x5152535455565758,
}
N = 300
FORMATS = {"1": "<B", "2": "<H", "4": "<I", "8": "<Q"}


def field_table() -> dict[str, tuple[int, str]]:
    """The document's table: name to (offset, struct format). The second reserved field is `reserved1`."""
    fields: dict[str, tuple[int, str]] = {}
    for offset, size, name in re.findall(r"^\| (\d+) \| (\d) \| (\w+) \|", PAGE.read_text(), re.MULTILINE):
        fields["reserved1" if name in fields else name] = (
            int(offset),
            "<d" if name == "weight" else FORMATS[size],
        )
    return fields


FIELDS = field_table()


def read_native(data: bytes) -> _core.Header:
    buffer = Guarded(np.frombuffer(data, dtype=np.uint8))
    try:
        return _core.read_header(buffer.ptr, len(data))
    finally:
        assert buffer.unchanged()


def read_reference(data: bytes) -> frame.Header:
    return frame.parse(data)[0]


every_reader = pytest.mark.parametrize("read", [read_native, read_reference])


def encoded(name: str = "int8", dtype: int = FP32) -> bytes:
    x = np.zeros(N, np.uint16) if dtype else values("cubes", N)
    return encode(single(name, {}, N), x, dtype, header=_core.Header(**TAG)).frame


def resealed(data: bytes) -> bytes:
    """The frame with the checksum that belongs to its other bytes."""
    size = frame.HEADER.size
    checked, payload = data[: frame.CHECKED_BYTES], data[size:]
    return checked + struct.pack("<Q", frame.checksum(checked, payload)) + payload


def with_field(data: bytes, name: str, value: float) -> bytes:
    """The frame with one header field replaced, under a valid checksum."""
    offset, form = FIELDS[name]
    field = struct.pack(form, value)
    return resealed(data[:offset] + field + data[offset + len(field) :])


def test_the_document_covers_the_whole_header():
    at = 0
    for offset, form in FIELDS.values():
        assert offset == at
        at += struct.calcsize(form)
    assert at == HEADER_BYTES == _core.HEADER_BYTES == frame.HEADER.size


@pytest.mark.parametrize("name", ["int8", "topk", "raw"])
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_every_field_lies_where_the_document_says(name, dtype):
    data = encoded(name, dtype)
    found = {field: struct.unpack_from(form, data, at)[0] for field, (at, form) in FIELDS.items()}
    own = spec(name, {})
    want = TAG | {"codec": own.wire_id, "param": own.param, "dtype": dtype, "count": N, "flags": 0}
    want |= {"payload_bytes": len(data) - HEADER_BYTES, "reserved": 0, "reserved1": 0}
    want |= {"magic": int.from_bytes(b"TWIR", "little"), "version": 1, "header_bytes": HEADER_BYTES}
    checksum = found.pop("checksum")
    assert found == want
    assert checksum == frame.checksum(data[:88], data[HEADER_BYTES:])


@every_reader
def test_readers_return_every_field(read):
    header = read(encoded())
    own = spec("int8", {})
    want = TAG | {"codec": own.wire_id, "param": own.param, "dtype": 0, "count": N, "flags": 0}
    assert {name: getattr(header, name) for name in want} == want
    assert header.payload_bytes == own.payload_bytes(N)


def test_a_header_keeps_what_is_set_and_refuses_what_does_not_fit():
    header = _core.Header()
    assert header.weight == 1.0
    for name, value in TAG.items():
        setattr(header, name, value)
        assert getattr(header, name) == value
    for name in ("bucket", "slice", "sender"):
        with pytest.raises(TypeError):
            setattr(header, name, 2**32)
    with pytest.raises(TypeError):
        _core.Header(group=-1)


@every_reader
def test_every_flipped_bit_is_noticed(read):
    data = encoded("int4")
    version = range(*[FIELDS["version"][0] + d for d in (0, 2)])
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(InvalidArgument if at in version else CorruptFrame):
                read(flipped)


@every_reader
def test_every_shorter_buffer_is_refused(read):
    data = encoded("int4")
    for size in range(len(data)):
        with pytest.raises(CorruptFrame, match="header" if size < HEADER_BYTES else "payload"):
            read(data[:size])


@every_reader
def test_what_stands_behind_the_frame_is_ignored(read):
    assert read(encoded() + bytes(1000)).count == N


@every_reader
@pytest.mark.parametrize(
    ("field", "value", "error", "match"),
    [
        ("magic", 0x52495755, CorruptFrame, "magic"),
        ("version", 2, InvalidArgument, r"version 2\b.*version 1\b"),
        ("header_bytes", 97, CorruptFrame, "header_bytes"),
        ("reserved", 1, CorruptFrame, "reserved"),
        ("reserved1", 2**63, CorruptFrame, "reserved"),
        ("flags", 4, CorruptFrame, "flags"),
        ("flags", 2**31, CorruptFrame, "flags"),
        ("payload_bytes", 2**64 - 1, CorruptFrame, "payload"),
        ("payload_bytes", 2**64 - HEADER_BYTES, CorruptFrame, "payload"),
        ("payload_bytes", 10**6, CorruptFrame, "payload"),
    ],
)
def test_readers_say_what_is_wrong(read, field, value, error, match):
    with pytest.raises(error, match=match):
        read(with_field(encoded(), field, value))


@every_reader
def test_a_wrong_checksum_is_named(read):
    data = bytearray(encoded())
    data[-1] ^= 1
    with pytest.raises(CorruptFrame, match="checksum"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("codec", 5),
        ("codec", 3),
        ("codec", frame.PLAN),
        ("param", 128),
        ("dtype", 3),
        ("count", N + 1),
        ("count", 0),
        ("count", 2**64 - 1),
    ],
)
def test_decoders_compare_with_what_they_expect(field, value):
    with pytest.raises(CorruptFrame, match={"count": "values"}.get(field, field)):
        decode(single("int8", {}, N), with_field(encoded(), field, value), np.zeros(N, dtype=np.float32))


@pytest.mark.parametrize("extra", [-16, 16])
def test_decoders_refuse_a_payload_of_another_length(extra):
    header, payload = frame.parse(encoded())
    longer = frame.pack(header, payload[:extra] if extra < 0 else payload + bytes(extra))
    with pytest.raises(CorruptFrame, match="payload_bytes"):
        decode(single("int8", {}, N), longer, np.zeros(N, dtype=np.float32))


def test_a_plan_is_known_by_its_id():
    layout, other = (_core.Layout([(N, spec("int8", {}))], plan) for plan in (1, 2))
    data = encode(layout, values("cubes", N)).frame
    assert decode(layout, data, np.zeros(N, dtype=np.float32))[0].param == 1
    for wrong in (other, single("int8", {}, N)):
        with pytest.raises(CorruptFrame, match=r"param|codec"):
            decode(wrong, data, np.zeros(N, dtype=np.float32))


def aborted(message: str, room: int = 500, **tag: int) -> tuple[bytes, Guarded]:
    out = Guarded(junk(room))
    size = _core.write_abort(_core.Header(**tag), 3, message, out.ptr, room)
    assert out.intact()
    assert (out.bytes[size:] == junk(1)).all()
    return out.bytes[:size].tobytes(), out


def reason_of(data: bytes) -> tuple[int, str]:
    return _core.abort_reason(Guarded(np.frombuffer(data, dtype=np.uint8)).ptr, len(data))


def test_an_aborted_frame_carries_its_reason_and_tag():
    data, _ = aborted("rank 2 ran out of käse", **{k: v for k, v in TAG.items() if k != "weight"})
    assert reason_of(data) == frame.abort_reason(data) == (3, "rank 2 ran out of käse")
    header = read_native(data)
    assert (header.flags, header.param, header.count) == (_core.FLAG_ABORTED, 3, 0)
    assert (header.group, header.step, header.sender) == (TAG["group"], TAG["step"], TAG["sender"])


def test_an_aborted_frame_is_the_one_of_the_reference():
    data, _ = aborted("why", step=4, sender=1)
    assert data == frame.abort(frame.Header(step=4, sender=1), 3, "why")


def test_an_aborted_frame_leaves_the_output_alone():
    data, _ = aborted("no", sender=5)
    before = values("cubes", N)
    header, after = decode(single("int8", {}, N), data + bytes(300), before)
    assert header.flags & _core.FLAG_ABORTED
    assert header.sender == 5
    assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize("room", [HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 2, HEADER_BYTES + 7])
def test_a_long_reason_is_cut_to_fit(room):
    data, _ = aborted("ää" * 10, room)
    assert len(data) == room
    number, text = reason_of(data)
    assert number == 3
    assert text == ("ää" * 10).encode()[: room - HEADER_BYTES].decode(errors="replace")


def test_an_aborted_frame_needs_room_for_its_header():
    with pytest.raises(InvalidArgument, match="96"):
        aborted("no", HEADER_BYTES - 1)


def test_a_flipped_bit_in_an_aborted_frame_is_noticed():
    data, _ = aborted("why")
    with pytest.raises(CorruptFrame, match="checksum"):
        reason_of(data[:-1] + b"Y")


def test_the_committed_vectors():
    file = json.loads((Path(vectors.formula.__file__).parent / "frame.json").read_text())
    for case in file["frames"]:
        header, payload = frame.parse(bytes.fromhex(case["frame"]))
        want = case["header"] | {"payload_bytes": len(payload)}
        assert vars(header) == want
        assert payload.hex() == case["payload"]
        native = read_native(bytes.fromhex(case["frame"]))
        assert {name: getattr(native, name) for name in want} == want
    for case in file["aborted"]:
        assert reason_of(bytes.fromhex(case["frame"])) == (case["number"], case["reason"])
        tag = {k: v for k, v in case["header"].items() if k in TAG}
        out = Guarded(junk(200))
        size = _core.write_abort(_core.Header(**tag), case["number"], case["reason"], out.ptr, 200)
        written, _ = frame.parse(out.bytes[:size].tobytes())
        expected, _ = frame.parse(bytes.fromhex(case["frame"]))
        assert replace(written, codec=expected.codec) == expected
