"""Frames along a shared basis: the bits of the reference on every CPU target, for any shape and codec."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from core_calls import decode, decoded, encode, spec
from support import BF16, DTYPES, FP16, FP32, Array, label, same_bits, store, widen
from thinwire import _core
from thinwire.errors import InvalidArgument
from thinwire.reference import CODECS, basis, direct, frame, numerics, resolve
from vectors.formula import values

PLAN_ID = 0xBA5E
KEY, STEP = 0x0123456789ABCDEF, 5
SHAPES = [(1, 64, 1), (64, 96, 8), (65, 50, 4), (130, 33, 9), (40, 300, 32), (200, 17, 2), (300, 16, 13)]
"""Rows, columns and rank: whole groups of rows and parts of one, columns beside multiples of 16."""
CODEC_CHOICES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CODECS),
    ("sign1", {"block": 1024}),
    ("int4", {"rounding": "stochastic"}),
    ("topk", {"density": 0.1, "values": "int8"}),
    ("topk", {"density": 0.01, "values": "fp16"}),
]

every_codec = pytest.mark.parametrize(
    ("name", "params"), [pytest.param(n, p, id=label(n, p)) for n, p in CODEC_CHOICES]
)
every_shape = pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)


class Along(NamedTuple):
    """A basis and a layout of one matrix along it. The vectors must live as long as the layout."""

    vectors: numerics.F32
    layout: _core.Layout


def native(vectors: numerics.F32) -> _core.Basis:
    rank, columns = vectors.shape
    return _core.Basis(columns, rank, vectors.ctypes.data)


def along(rows: int, columns: int, rank: int, name: str, params: dict[str, Any]) -> Along:
    vectors = basis.begin(columns, rank, key=7)
    segment = (rows * columns, spec(name, params), native(vectors))
    return Along(vectors, _core.Layout([segment], PLAN_ID))


def nonfinite_in(payload: bytes, n: int, vectors: numerics.F32, name: str, params: dict[str, Any]) -> int:
    """Count the spoiled blocks: of coefficients, and of the codec."""
    name, params = resolve(name, n, params)
    head = 0 if name == "raw" else basis.coefficient_bytes(n, vectors)
    size = basis.coefficient_bytes(vectors.shape[1], vectors)
    scales = [np.frombuffer(payload[at : at + 2 * len(vectors)], np.uint16) for at in range(0, head, size)]
    rest = CODECS[name].decode(payload[head:], n, **params)
    spoiled = np.flatnonzero(~np.isfinite(rest)) // CODECS[name].unit(**params)
    return sum(int((s == numerics.NAN_BF16).sum()) for s in scales) + len(set(spoiled))


def check(
    shape: tuple[int, int, int],
    name: str,
    params: dict[str, Any],
    x: Array,
    dtype: int = FP32,
    residual: Array | None = None,
    residual_dtype: int = FP32,
    scale: float = 1.0,
    held: bool = False,
) -> None:
    """Compare a frame, its residual and what it decodes to with the reference."""
    vectors, layout = along(*shape, name, params)
    old = None if residual is None else widen(residual, residual_dtype)
    y = numerics.encoder_input(widen(x, dtype), scale, None if held else old)
    payload, error = basis.encode(y, vectors, name, step=STEP, key=KEY, **params)
    got = encode(
        layout,
        x,
        dtype,
        header=_core.Header(step=STEP),
        scale=scale,
        residuals=None if residual is None else [residual],
        residual_dtype=residual_dtype,
        held=[held],
        key=KEY,
    )
    header, found = frame.parse(got.frame)
    spoiled = nonfinite_in(payload, y.size, vectors, name, params)
    assert found == payload
    assert got.nonfinite == spoiled
    assert header.flags == (frame.NONFINITE if spoiled else 0)
    if residual is not None and old is not None:
        new = numerics.accumulate(old, error) if held else error
        assert same_bits(got.residuals[0], store(new, residual_dtype))
    for to in DTYPES:
        before = store(values("cubes", y.size, seed=3), to)
        for accumulate in (False, True):
            out = widen(before, to) if accumulate else None
            want = basis.decode(payload, y.size, vectors, name, out=out, **params)
            assert same_bits(decode(layout, got.frame, before, to, accumulate=accumulate)[1], store(want, to))


@every_codec
@every_shape
def test_the_bits_of_the_reference(target, name, params, rows, columns, rank):
    check((rows, columns, rank), name, params, values("cubes", rows * columns, seed=1))


@every_codec
@pytest.mark.parametrize("kind", ["zeros", "negative_zeros", "denormal", "huge", "nonfinite", "sparse"])
def test_special_values_give_the_bits_of_the_reference(target, name, params, kind):
    check((130, 33, 9), name, params, values(kind, 130 * 33))


@pytest.mark.parametrize("name", ["int4", "sign1", "topk"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("residual_dtype", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("held", [False, True])
def test_dtypes_scales_and_held_segments(target, name, dtype, residual_dtype, held):
    n = 130 * 33
    x = store(values("cubes", n, seed=1), dtype)
    old = store(values("cubes", n, -4, seed=2), residual_dtype)
    check((130, 33, 9), name, {}, x, dtype, old, residual_dtype, scale=0.3, held=held)


@every_codec
def test_input_is_what_was_decoded_and_what_is_left(target, name, params):
    _vectors, layout = along(130, 33, 9, name, params)
    y = values("cubes", layout.count)
    got = encode(layout, y, residuals=[np.zeros_like(y)])
    together = decoded(layout, got.frame).astype(np.float64) + got.residuals[0]
    assert np.abs(together - y).max() < 1e-6


@every_codec
def test_what_is_not_finite_arrives_as_nan_and_stays_in_no_residual(target, name, params):
    _vectors, layout = along(130, 33, 9, name, params)
    y = values("cubes", layout.count)
    y[[3, 70 * 33]] = np.nan, np.inf  # in the first and the second of three groups of rows
    got = encode(layout, y, residuals=[np.zeros_like(y)])
    out, coded = decoded(layout, got.frame), name != "raw"
    assert got.nonfinite > 0
    assert not np.isfinite(out[[3, 70 * 33]]).any()
    assert np.isnan(out[: 128 * 33]).all() or not coded  # a group of rows shares its coefficients' scales
    assert np.isfinite(got.residuals[0]).all()
    assert not got.residuals[0][~np.isfinite(out)].any()


def test_what_lies_along_the_basis_arrives_in_eight_bits(target):
    vectors, layout = along(100, 64, 4, "sign1", {"block": 1024})
    y = (values("uniform", 400, seed=5).reshape(100, 4) @ vectors).astype(np.float32).reshape(-1)
    lost = np.linalg.norm(decoded(layout, encode(layout, y).frame) - y)
    plain = _core.Layout([(y.size, spec("sign1", {"block": 1024}))], PLAN_ID)
    assert lost < 0.01 * np.linalg.norm(y)
    assert np.linalg.norm(decoded(plain, encode(plain, y).frame) - y) > 0.3 * np.linalg.norm(y)


def test_segments_with_and_without_a_basis_in_one_frame(target):
    wide, narrow = basis.begin(50, 8, key=1), basis.begin(16, 1, key=2)
    parts = [(200, "bf16", None), (70 * 50, "sign1", wide), (333, "int4", None), (3 * 16, "topk", narrow)]
    segments = tuple(direct.Segment(n, codec, vectors=v) for n, codec, v in parts)
    part = direct.Part(0, segments, plan_id=PLAN_ID)
    layout = _core.Layout(
        [(n, spec(c, {})) if v is None else (n, spec(c, {}), native(v)) for n, c, v in parts], PLAN_ID
    )
    x = values("cubes", part.count)
    want, error = direct.encode_part(part, x, frame.Header())
    assert layout.frame_bytes == len(want)
    got = encode(layout, x, residuals=[np.zeros(n, np.float32) for n, _, _ in parts])
    assert got.frame == want
    assert same_bits(np.concatenate(got.residuals), error)
    assert same_bits(decoded(layout, want), direct.decode_part(part, want))


def test_values_that_travel_raw_have_no_coefficients(target):
    _vectors, layout = along(1, 8, 2, "int8", {})
    assert [codec.name for _, codec in layout.segments] == ["raw"]
    x = values("cubes", 8)
    assert frame.parse(encode(layout, x).frame)[1] == x.tobytes()


def test_a_basis_without_rows_is_an_empty_segment(target):
    _vectors, layout = along(0, 64, 4, "sign1", {})
    assert layout.frame_bytes == _core.HEADER_BYTES
    assert decoded(layout, encode(layout, np.zeros(0, np.float32)).frame).size == 0


@pytest.mark.parametrize(("columns", "rank"), [(4, 5), (100, 33), (100, 0), (0, 0)])
def test_a_basis_that_cannot_be(columns, rank):
    with pytest.raises(InvalidArgument, match=f"from 1 to 32 vectors.* not {rank} of {columns}"):
        _core.Basis(columns, rank, np.zeros(10_000, np.float32).ctypes.data)


def test_a_basis_holds_whole_rows():
    vectors = basis.begin(50, 4, key=0)
    with pytest.raises(InvalidArgument, match="a basis of 4 vectors of 50 values does not fit 101 values"):
        _core.Layout([(101, spec("int8", {}), native(vectors))], PLAN_ID)


def test_a_layout_with_a_basis_needs_a_plan():
    vectors = basis.begin(50, 4, key=0)
    with pytest.raises(InvalidArgument, match="with a basis, needs a plan_id"):
        _core.Layout([(100, spec("int8", {}), native(vectors))])


def test_fp16_values_are_rounded_once_after_both_parts(target):
    """Decoding to fp16 and decoding to fp32 and rounding are the same."""
    _vectors, layout = along(65, 50, 4, "int4", {})
    sent = encode(layout, values("cubes", layout.count)).frame
    out = decode(layout, sent, np.zeros(layout.count, np.uint16), FP16)[1]
    assert same_bits(out, store(decoded(layout, sent), FP16))
