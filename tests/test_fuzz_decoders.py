"""Every decoder against frames that were changed or made up: our errors or a result, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_calls import decode, encode, single
from support import DTYPES, HEADER_BYTES, store
from thinwire import _core, reference
from thinwire.errors import CorruptFrame, InvalidArgument
from thinwire.reference import basis, frame
from vectors.formula import values
from vectors.parameters import defaults, smallest_block

LENGTHS = [1, 33, 300, 1100, 2600]
# the target is the same for all examples of a test
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

every_codec = pytest.mark.parametrize("name", reference.CODECS)
lengths = st.sampled_from(LENGTHS)
edits = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8)
calls = st.tuples(st.sampled_from(DTYPES), st.booleans())


def edited(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    """The bytes with some of them replaced."""
    new = bytearray(data)
    for at, value in changes:
        if new:
            new[at % len(new)] = value
    return bytes(new)


def layout_of(name: str, n: int) -> _core.Layout:
    return single(name, {"block": smallest_block(name)} if "block" in defaults(name) else {}, n)


def encoded(name: str, n: int) -> bytes:
    return encode(layout_of(name, n), values("cubes", n)).frame


def attempt(layout: _core.Layout, data: bytes, call: tuple[int, bool]) -> bool:
    """Say whether decoding went through; it checks guard bytes, and that an error leaves the output alone."""
    dtype, accumulate = call
    try:
        decode(layout, data, store(values("cubes", layout.count), dtype), dtype, accumulate=accumulate)
    except (CorruptFrame, InvalidArgument):
        return False
    return True


@every_codec
@fuzz
@given(n=lengths, changes=edits, cut=st.integers(-200, 100), call=calls)
def test_changed_frames(target, name, n, changes, cut, call):
    whole = encoded(name, n)
    data = edited(whole, changes)
    data = data[:cut] if cut < 0 else data + bytes(cut)
    untouched = data[: len(whole)] == whole
    assert attempt(layout_of(name, n), data, call) == untouched


@every_codec
@fuzz
@given(n=lengths, data=st.binary(max_size=400), call=calls)
def test_random_bytes(target, name, n, data, call):
    assert not attempt(layout_of(name, n), data, call)


@every_codec
@fuzz
@given(n=lengths, data=st.binary(max_size=200), header=st.binary(min_size=84, max_size=84), call=calls)
def test_random_fields_behind_a_good_start(target, name, n, data, header, call):
    assert not attempt(layout_of(name, n), b"TWIR\x01\x00\x60\x00" + header + data, call)


@every_codec
@fuzz
@given(n=lengths, changes=edits, seed=st.none() | st.integers(0, 2**32 - 1), call=calls)
def test_payloads_that_no_encoder_writes(target, name, n, changes, seed, call):
    """Under a valid checksum, so that the codec itself sees them."""
    header, payload = frame.parse(encoded(name, n))
    if seed is not None:
        payload = np.random.default_rng(seed).bytes(len(payload))
    attempt(layout_of(name, n), frame.pack(header, edited(payload, changes)), call)


@every_codec
@fuzz
@given(
    n=lengths,
    field=st.sampled_from(["codec", "param", "dtype", "phase", "count"]),
    value=st.integers(0, 255),
    call=calls,
)
def test_fields_that_do_not_fit(target, name, n, field, value, call):
    header, payload = frame.parse(encoded(name, n))
    changed = frame.Header(**vars(header) | {field: value})
    data = frame.pack(changed, payload)
    harmless = field == "phase" or (field == "dtype" and value in DTYPES) or changed == header
    assert attempt(layout_of(name, n), data, call) == harmless


hostile = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2, 254, 255]))


@fuzz
@given(
    n=st.sampled_from([300, 1100, 2600]),
    density=st.sampled_from([0.01, 0.1, 0.5]),
    values_kind=st.sampled_from(["sign", "int8", "fp16"]),
    counts=st.lists(hostile, max_size=11),
    offsets=st.lists(hostile, max_size=40),
    ascending=st.booleans(),
    call=calls,
)
def test_topk_refuses_what_the_reference_refuses(
    target, n, density, values_kind, counts, offsets, ascending, call
):
    """Hostile counts and offsets under a valid checksum."""
    params = {"density": density, "values": values_kind}
    layout = single("topk", params, n)
    if layout.segments[0][1].name != "topk":
        return
    header, payload = frame.parse(encode(layout, values("cubes", n)).frame)
    sections = reference.topk.section_bytes(n, density, values_kind)
    changed = bytearray(payload)
    changed[: min(len(counts), sections[0])] = bytes(counts[: sections[0]])
    start = sum(map(reference.sections.padded, sections[:2]))
    offsets = sorted(set(offsets)) if ascending else offsets
    changed[start : start + min(len(offsets), sections[2])] = bytes(offsets[: sections[2]])
    try:
        reference.topk.decode(bytes(changed), n, **params)
        sound = True
    except CorruptFrame:
        sound = False
    assert attempt(layout, frame.pack(header, bytes(changed)), call) == sound


@fuzz
@given(n=st.sampled_from(LENGTHS[1:]), changes=edits, call=calls)
def test_ternary_refuses_what_the_reference_refuses(target, n, changes, call):
    """Hostile codes under a valid checksum."""
    layout = single("ternary", {}, n)
    header, payload = frame.parse(encode(layout, values("cubes", n)).frame)
    changed = edited(payload, changes)
    try:
        reference.ternary.decode(changed, n)
        sound = True
    except CorruptFrame:
        sound = False
    assert attempt(layout, frame.pack(header, changed), call) == sound


ROWS, COLUMNS = 70, 33
VECTORS = basis.begin(COLUMNS, 9, key=7)
BASIS = _core.Basis(COLUMNS, 9, VECTORS.ctypes.data)


@every_codec
@fuzz
@given(changes=edits, seed=st.none() | st.integers(0, 2**32 - 1), call=calls)
def test_payloads_along_a_basis_that_no_encoder_writes(target, name, changes, seed, call):
    """Under a valid checksum. What the reference refuses is refused."""
    n, codec = ROWS * COLUMNS, layout_of(name, ROWS * COLUMNS).segments[0][1]
    layout = _core.Layout([(n, codec, BASIS)], 7)
    header, payload = frame.parse(encode(layout, values("cubes", n)).frame)
    if seed is not None:
        payload = np.random.default_rng(seed).bytes(len(payload))
    changed = edited(payload, changes)
    try:
        with np.errstate(all="ignore"):
            basis.decode(changed, n, VECTORS, name, **codec.params)
        sound = True
    except CorruptFrame:
        sound = False
    assert attempt(layout, frame.pack(header, changed), call) == sound


def test_the_frames_under_test_are_more_than_headers():
    for name in reference.CODECS:
        for n in LENGTHS:
            assert len(encoded(name, n)) > HEADER_BYTES
