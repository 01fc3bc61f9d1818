"""What every native codec must keep, on every CPU target: the reference's bits, and nobody else's memory."""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import vectors.formula
from core_calls import decode, decoded, encode, fold, single, spec
from support import BF16, DTYPES, FP16, FP32, HEADER_BYTES, Array, label, same_bits, store, widen
from thinwire import _core, reference
from thinwire.reference import direct, frame, numerics, topk
from vectors.formula import values
from vectors.make import digest
from vectors.parameters import PARAMETERS

VECTORS = Path(vectors.formula.__file__).parent
KEY = 0x0123456789ABCDEF
STEP = 5
NONE = None  # no residual

every_codec = pytest.mark.parametrize(
    ("name", "params"),
    [pytest.param(n, p, id=label(n, p)) for n, choices in PARAMETERS.items() for p in choices],
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])


def lengths(name: str, params: dict[str, Any]) -> list[int]:
    """Lengths around the edges of vectors, blocks, rows and groups, and beyond one that samples topk."""
    unit = reference.CODECS[name].unit(**params)
    edges = {16, 32, unit} | ({256} if name == "topk" else set())
    around = {n + d for n in edges for d in (-1, 0, 1)}
    return sorted({0, 1, 1003, 2 * unit + 37} | around | ({70_001} if name == "topk" else set()))


class Case(NamedTuple):
    """One call of encode_frame with a single segment."""

    name: str
    params: tuple[tuple[str, Any], ...]
    n: int
    kind: str
    dtype: int = FP32
    residual_dtype: int | None = NONE
    mode: str = "in place"
    held: bool = False
    scale: float = 1.0

    @property
    def layout(self) -> _core.Layout:
        return single(self.name, dict(self.params), self.n)

    @property
    def x(self) -> Array:
        return store(values(self.kind, self.n, -3, seed=self.n), self.dtype)

    @property
    def residual(self) -> Array | None:
        if self.residual_dtype is NONE:
            return NONE
        residual = values("cubes", self.n, -5, seed=self.n + 1)
        residual[::7] = -0.0
        return store(residual, self.residual_dtype)


class Expected(NamedTuple):
    """What the reference makes of a case."""

    payload: bytes
    decoded: Array
    residual: Array
    nonfinite: int


@cache  # every target is compared with the same
def expected(case: Case) -> Expected:
    name, params = reference.resolve(case.name, case.n, dict(case.params))
    codec, x, old = reference.CODECS[name], widen(case.x, case.dtype), case.residual
    if old is not NONE:
        old = NONE if case.mode == "out only" else widen(old, case.residual_dtype)
    y = numerics.encoder_input(x, case.scale, NONE if case.held else old)
    payload, error = codec.encode(y, step=STEP, key=KEY, **params)
    values_back = codec.decode(payload, case.n, **params)
    spoiled = np.flatnonzero(~np.isfinite(values_back)) // codec.unit(**params)
    new = error if old is NONE or not case.held else old + error
    return Expected(payload, values_back, store(new, case.residual_dtype or FP32), len(set(spoiled)))


def encode_case(case: Case) -> Any:
    residuals = NONE if case.residual is NONE else [case.residual]
    return encode(
        case.layout,
        case.x,
        case.dtype,
        header=_core.Header(step=STEP),
        scale=case.scale,
        residuals=residuals,
        residual_dtype=case.residual_dtype or FP32,
        mode=case.mode,
        held=[True] if case.held else None,
        key=KEY,
    )


def check(case: Case) -> None:
    want, got = expected(case), encode_case(case)
    header, payload = frame.parse(got.frame)
    assert payload == want.payload, f"payload of {case}"
    assert got.nonfinite == want.nonfinite, case
    assert header.flags == (frame.NONFINITE if want.nonfinite else 0), case
    if case.residual is not NONE:
        assert same_bits(got.residuals[0], want.residual), f"residual of {case}"


@every_codec
@every_dtype
def test_encoding_gives_the_bits_of_the_reference(target, name, params, dtype):
    for n, residual_dtype in itertools.product(lengths(name, params), [NONE, FP32, BF16]):
        check(Case(name, tuple(params.items()), n, "cubes", dtype, residual_dtype))


@every_codec
@pytest.mark.parametrize("kind", vectors.formula.KINDS)
def test_encoding_special_values_gives_the_bits_of_the_reference(target, name, params, kind):
    n = 2 * max(1024, reference.CODECS[name].unit(**params)) + 37
    for dtype, residual_dtype in [(FP32, NONE), (FP32, FP32), (FP16, FP32), (BF16, BF16)]:
        check(Case(name, tuple(params.items()), n, kind, dtype, residual_dtype))


@every_codec
def test_scales_held_segments_and_residuals_apart(target, name, params):
    options = itertools.product(["in place", "apart", "out only"], [False, True], [1.0, 0.3])
    for (n, kind), residual_dtype, (mode, held, scale) in itertools.product(
        [(100, "cubes"), (2085, "nonfinite")], [FP32, BF16], options
    ):
        check(Case(name, tuple(params.items()), n, kind, FP16, residual_dtype, mode, held, scale))


@every_codec
@every_dtype
def test_decoding_gives_the_bits_of_the_reference(target, name, params, dtype):
    for n, kind in itertools.product(lengths(name, params), ["cubes", "nonfinite", "huge"]):
        case = Case(name, tuple(params.items()), n, kind)
        encoded, want = encode_case(case).frame + b"behind the frame", expected(case).decoded
        before = store(values("anything", n, seed=3), dtype)
        before[: n // 2] = store(values("negative_zeros", n // 2), dtype)
        for accumulate in (False, True):
            wide = numerics.accumulate(widen(before, dtype), want) if accumulate else want
            header, out = decode(case.layout, encoded, before, dtype, accumulate=accumulate)
            assert same_bits(out, store(wide, dtype)), f"{case} {accumulate=}"
            assert header.count == n


@every_dtype
def test_fold_gives_the_input_of_the_encoder(target, dtype):
    for n, residual_dtype, held in itertools.product([0, 1, 15, 16, 1003], [NONE, FP32, BF16], [False, True]):
        case = Case("raw", (), n, "anything", dtype, residual_dtype)
        old = NONE if case.residual is NONE or held else widen(case.residual, residual_dtype)
        options = {"residuals": NONE if case.residual is NONE else [case.residual], "held": [held]}
        got = fold(case.layout, case.x, dtype, scale=0.3, residual_dtype=residual_dtype or FP32, **options)
        want = numerics.encoder_input(widen(case.x, dtype), 0.3, old)
        # which NaN an addition gives is not specified
        assert same_bits(numerics.canonical(got), numerics.canonical(want)), f"{case} {held=}"


PLAN = (
    direct.Segment(10, "int8"),  # raw takes over
    direct.Segment(333, "bf16"),
    direct.Segment(1000, "int4"),
    direct.Segment(0, "int8"),
    direct.Segment(2500, "topk"),
    direct.Segment(777, "sign1"),
    direct.Segment(1000, "int2"),
    direct.Segment(331, "ternary"),
    direct.Segment(300, "int4", {"rounding": "stochastic"}),
)


def test_a_plan_frame_holds_its_segments_in_order(target):
    resolved = tuple(direct.Segment(s.count, *reference.resolve(s.codec, s.count, s.params)) for s in PLAN)
    part = direct.Part(0, resolved, plan_id=0xABCD1234)
    layout = _core.Layout([(s.count, spec(s.codec, s.params)) for s in PLAN], 0xABCD1234)
    assert [(n, c.name) for n, c in layout.segments] == [(s.count, s.codec) for s in resolved]
    x, old = values("cubes", part.count, seed=1), values("cubes", part.count, -4, seed=2)
    counts, held = [s.count for s in PLAN], [i % 2 == 1 for i in range(len(PLAN))]
    where = np.repeat(held, counts)
    tag = {"group": 9, "step": STEP, "bucket": 2, "slice": 3, "sender": 4, "phase": 1, "control": 8}
    y = np.where(where, numerics.encoder_input(x, 0.5), numerics.encoder_input(x, 0.5, old))
    want, error = direct.encode_part(part, y, frame.Header(**tag, weight=0.5), KEY)
    header, residuals = _core.Header(**tag, weight=0.5), np.split(old, np.cumsum(counts)[:-1])
    got = encode(layout, x, header=header, scale=0.5, residuals=residuals, held=held, key=KEY)
    assert got.frame == want
    assert same_bits(np.concatenate(got.residuals), np.where(where, old + error, error))
    assert same_bits(decoded(layout, got.frame), direct.decode_part(part, want))


def test_a_segment_may_have_no_residual(target):
    part = direct.Part(0, (direct.Segment(100, "int8"), direct.Segment(100, "int4")), plan_id=1)
    layout = _core.Layout([(100, spec("int8", {})), (100, spec("int4", {}))], 1)
    x, old = values("cubes", 200), values("cubes", 100, -4)
    got = encode(layout, x, residuals=[None, old])
    want, error = direct.encode_part(part, np.concatenate([x[:100], x[100:] + old]), frame.Header())
    assert got.frame == want
    assert same_bits(got.residuals[1], error[100:])


@every_codec
def test_three_ranks_reduce_as_in_the_reference(target, name, params):
    n, owner, weights = 3000, 1, [0.5, 0.2, 0.3]
    x, old = [[values("cubes", n, e, seed=r) for r in range(3)] for e in (0, -4)]
    resolved, chosen = reference.resolve(name, n, params)
    part, tag = direct.Part(owner, (direct.Segment(n, resolved, chosen),)), frame.Header(step=STEP)
    want = direct.all_reduce(x, old, [part], weights=weights, keys=[KEY] * 3, header=tag)

    layout, options = single(name, params, n), {"header": _core.Header(step=STEP), "key": KEY}
    total = fold(layout, x[owner], scale=weights[owner], residuals=[old[owner]])
    new = list(old)
    for r in (0, 2):
        sent = encode(layout, x[r], scale=weights[r], residuals=[old[r]], **options)
        new[r] = sent.residuals[0]
        _, total = decode(layout, sent.frame, total, accumulate=True)
    # the old residual is in `total` already
    mean = encode(layout, total, residuals=[old[owner]], mode="out only", **options)
    new[owner] = mean.residuals[0]
    assert same_bits(decoded(layout, mean.frame), want.values)
    assert all(map(same_bits, new, want.residuals))


@pytest.mark.parametrize("name", reference.CODECS)
@pytest.mark.parametrize("flush", [False, True], ids=["keeping", "flushing"])
def test_a_thread_that_flushes_denormals_gets_the_same_bits_and_keeps_flushing(target, name, flush):
    torch = pytest.importorskip("torch")
    cases = [
        Case(name, (), 2085, kind, FP32, FP32, scale=2.0**-60) for kind in ("finite", "denormal", "cubes")
    ]
    for case in cases:
        expected(case)  # cached: NumPy would flush too
    small = torch.tensor([2.0**-120], dtype=torch.float32)
    torch.set_flush_denormal(flush)
    try:
        got = [(encode_case(case), decoded(case.layout, encode_case(case).frame)) for case in cases]
        flushes = (small * 2.0**-20).item() == 0
    finally:
        torch.set_flush_denormal(False)
    assert flushes == flush
    for case, (encoded, back) in zip(cases, got, strict=True):
        assert encoded.frame[HEADER_BYTES:] == expected(case).payload
        assert same_bits(encoded.residuals[0], expected(case).residual)
        assert same_bits(back, expected(case).decoded)


@pytest.mark.parametrize("name", reference.CODECS)
def test_the_committed_vectors(target, name):
    for case in json.loads((VECTORS / f"{name}.json").read_text())["cases"]:
        y = values(case["kind"], case["n"], case["exponent"], case["seed"])
        assert digest(y.astype("<f4").tobytes()) == case["input"]
        if reference.resolve(name, case["n"], case["params"])[0] != name:
            continue  # the layout would be raw
        layout, header = single(name, case["params"], case["n"]), _core.Header(step=case["step"])
        unchanging = np.full_like(y, -0.0)
        got = encode(layout, y, header=header, residuals=[unchanging], key=case["key"])
        results = {
            "payload": got.frame[HEADER_BYTES:],
            "decoded": decoded(layout, got.frame).astype("<f4").tobytes(),
            "residual": got.residuals[0].astype("<f4").tobytes(),
        }
        assert {k: digest(v) for k, v in results.items()} == {k: case[k] for k in results}, case


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
def test_topk_rows_that_are_full_and_a_cap_that_is_reached(target, density):
    for n in (256, 1024, 1025, 3000):
        layout = single("topk", {"density": density}, n)
        ones = np.ones(n, dtype=np.float32)
        for y in (ones, -values("ties7", n), np.where(np.arange(n) < 300, ones, 0)):
            payload, residual = topk.encode(y, density=density)
            got = encode(layout, y, residuals=[np.full_like(y, -0.0)])
            assert got.frame[HEADER_BYTES:] == payload
            assert same_bits(got.residuals[0], residual)


@pytest.mark.parametrize("n", [65536, 65537, 131072 + 65, 64 * 65536 + 1])
def test_topk_samples_by_step(target, n):
    y, layout = values("cubes", n, seed=4), single("topk", {}, n)
    for step in (0, 63, 2**63 + 1):
        payload, _ = topk.encode(y, step=step)
        assert encode(layout, y, header=_core.Header(step=step)).frame[HEADER_BYTES:] == payload
