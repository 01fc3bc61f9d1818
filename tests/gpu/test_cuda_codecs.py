"""What every codec does on a CUDA device: the CPU's bits, and nobody else's memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core_calls
import vectors.formula
from core_calls import Encoded, single, spec
from gpu import device_calls
from gpu.device_calls import needs_gpu
from support import BF16, DTYPES, FP16, FP32, HEADER_BYTES, Array, label, same_bits, store
from thinwire import _core, reference
from vectors.formula import values
from vectors.make import digest
from vectors.parameters import PARAMETERS

pytestmark = needs_gpu

KEY = 0x0123456789ABCDEF
STEP = 5
NONE = None  # no residual

every_codec = pytest.mark.parametrize(
    ("name", "params"),
    [pytest.param(n, p, id=label(n, p)) for n, choices in PARAMETERS.items() for p in choices],
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])


def lengths(name: str, params: dict[str, Any]) -> list[int]:
    """Lengths around the edges of warps, blocks, rows, groups and units of work."""
    unit = reference.CODECS[name].unit(**params)
    around = {n + d for n in {32, 1024, unit} for d in (-1, 0, 1)}
    return sorted({0, 1, 1003, 2 * unit + 37, 70_000, 70_001} | around)


def residual_of(n: int, dtype: int | None) -> list[Array] | None:
    return NONE if dtype is NONE else [store(values("cubes", n, -5, seed=n + 1), dtype)]


def check_encoding(layout: _core.Layout, x: Array, dtype: int, **options: Any) -> Encoded:
    """Encode on the host and on the device; both must leave the same."""
    options = {"header": _core.Header(step=STEP), "key": KEY} | options
    want = core_calls.encode(layout, x, dtype, **options)
    got = device_calls.encode(layout, x, dtype, **options)
    assert got.frame == want.frame
    assert got.nonfinite == want.nonfinite
    for new, expected in zip(got.residuals, want.residuals, strict=True):
        assert new is expected is NONE or same_bits(new, expected)
    return want


@every_codec
@every_dtype
def test_encoding_gives_the_bits_of_the_cpu(name, params, dtype):
    for n, residual_dtype in itertools.product(lengths(name, params), [NONE, FP32, BF16]):
        x = store(values("cubes", n, -3, seed=n), dtype)
        residuals = residual_of(n, residual_dtype)
        check_encoding(
            single(name, params, n), x, dtype, residuals=residuals, residual_dtype=residual_dtype or FP32
        )


@every_codec
@pytest.mark.parametrize("kind", vectors.formula.KINDS)
def test_encoding_special_values_gives_the_bits_of_the_cpu(name, params, kind):
    n = 2 * max(1024, reference.CODECS[name].unit(**params)) + 37
    for dtype, residual_dtype in [(FP32, NONE), (FP32, FP32), (BF16, BF16)]:
        x, residuals = store(values(kind, n, -3, seed=n), dtype), residual_of(n, residual_dtype)
        check_encoding(
            single(name, params, n), x, dtype, residuals=residuals, residual_dtype=residual_dtype or FP32
        )


@every_codec
def test_scales_held_segments_and_residuals_apart(name, params):
    options = itertools.product(["in place", "apart", "out only"], [False, True], [1.0, 0.3])
    for (n, kind), residual_dtype, (mode, held, scale) in itertools.product(
        [(100, "cubes"), (2084, "nonfinite"), (2085, "nonfinite")], [FP32, BF16], options
    ):
        check_encoding(
            single(name, params, n),
            store(values(kind, n, -3, seed=n), FP16),
            FP16,
            residuals=residual_of(n, residual_dtype),
            residual_dtype=residual_dtype,
            mode=mode,
            held=[held],
            scale=scale,
        )


@every_codec
@every_dtype
def test_decoding_gives_the_bits_of_the_cpu(name, params, dtype):
    for n, kind in itertools.product(lengths(name, params), ["cubes", "nonfinite", "huge"]):
        layout = single(name, params, n)
        encoded = core_calls.encode(layout, values(kind, n, -3, seed=n)).frame + b"behind the frame"
        before = store(values("anything", n, seed=3), dtype)
        before[: n // 2] = store(values("negative_zeros", n // 2), dtype)
        for accumulate in (False, True):
            _, want = core_calls.decode(layout, encoded, before, dtype, accumulate=accumulate)
            header, got = device_calls.decode(layout, encoded, before, dtype, accumulate=accumulate)
            assert same_bits(got, want), f"{n} {kind} {accumulate=}"
            assert header.count == n


def test_a_plan_of_more_segments_than_a_launch_takes():
    choices = [(name, params) for name, all_params in PARAMETERS.items() for params in all_params]
    counts = [37 * i % 1500 for i in range(3 * len(choices))]
    layout = _core.Layout([(n, spec(*choices[i % len(choices)])) for i, n in enumerate(counts)], 0xABCD)
    x = values("cubes", sum(counts), seed=1)
    residuals = [NONE if i % 5 == 3 else values("cubes", n, -4, seed=i) for i, n in enumerate(counts)]
    held = [i % 4 == 1 for i in range(len(counts))]
    want = check_encoding(layout, x, FP32, residuals=residuals, held=held, scale=0.5)
    before = values("cubes", layout.count, seed=7)
    for accumulate in (False, True):
        _, expected = core_calls.decode(layout, want.frame, before, accumulate=accumulate)
        _, got = device_calls.decode(layout, want.frame, before, accumulate=accumulate)
        assert same_bits(got, expected)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("coded", ["sign", "int8", "fp16"])
def test_topk_rows_that_are_full_and_a_cap_that_is_reached(density, coded):
    for n in (256, 1024, 1025, 3000):
        layout = single("topk", {"density": density, "values": coded}, n)
        for x in (
            np.ones(n, np.float32),
            -values("ties7", n),
            (np.arange(n) < 300).astype(np.float32),
        ):
            check_encoding(layout, x, FP32, residuals=[np.zeros_like(x)])


@pytest.mark.parametrize("coded", ["sign", "int8", "fp16"])
def test_topk_with_a_sample_that_misleads(coded):
    """The sample of an odd step sees none of the great values, half as many again as a frame holds."""
    i = np.arange(140_000)
    great = (i // 64 % 2 == 0) & (i % 37 == 5)
    x = (values("cubes", i.size, seed=4) * np.where(great, 1, 2.0**-20)).astype(np.float32)
    layout = single("topk", {"density": 0.01, "values": coded}, i.size)
    for mode in ("in place", "apart"):
        check_encoding(layout, x, FP32, header=_core.Header(step=1), residuals=[np.zeros_like(x)], mode=mode)


@pytest.mark.parametrize("n", [65536, 65537, 131072 + 65, 1024 * 1024 + 1, 64 * 65536 + 1])
def test_topk_samples_by_step_and_counts_across_spans(n):
    x, layout = values("cubes", n, seed=4), single("topk", {}, n)
    for step in (0, 63, 2**63 + 1):
        want = check_encoding(layout, x, FP32, header=_core.Header(step=step), residuals=[np.zeros_like(x)])
    before = np.zeros_like(x)
    assert same_bits(
        device_calls.decode(layout, want.frame, before)[1], core_calls.decode(layout, want.frame, before)[1]
    )


@pytest.mark.parametrize("name", reference.CODECS)
def test_the_committed_vectors(name):
    folder = Path(vectors.formula.__file__).parent
    for case in json.loads((folder / f"{name}.json").read_text())["cases"]:
        if reference.resolve(name, case["n"], case["params"])[0] != name:
            continue  # the layout would be raw
        y = values(case["kind"], case["n"], case["exponent"], case["seed"])
        layout, header = single(name, case["params"], case["n"]), _core.Header(step=case["step"])
        unchanging = np.full_like(y, -0.0)
        got = device_calls.encode(layout, y, header=header, residuals=[unchanging], key=case["key"])
        _, back = device_calls.decode(layout, got.frame, unchanging)
        results = {
            "payload": got.frame[HEADER_BYTES:],
            "decoded": back.tobytes(),
            "residual": got.residuals[0].tobytes(),
        }
        assert {k: digest(v) for k, v in results.items()} == {k: case[k] for k in results}, case


def test_a_large_tensor():
    n = 40_000_002  # more units of work than warps of a launch
    x, old = values("cubes", n, seed=9), values("cubes", n, -4, seed=10)
    for name in ("fp8", "int8", "int4", "int2", "ternary", "sign1", "topk", "bf16"):
        layout = single(name, {}, n)
        want = check_encoding(layout, x, FP32, residuals=[old])
        _, expected = core_calls.decode(layout, want.frame, old, accumulate=True)
        assert same_bits(device_calls.decode(layout, want.frame, old, accumulate=True)[1], expected)
