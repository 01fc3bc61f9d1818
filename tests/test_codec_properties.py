"""What the native codecs promise apart from bits: error bounds, nothing lost, no bias, non-finite values."""

from __future__ import annotations

import numpy as np
import pytest

from core_calls import decode, decoded, encode, single, spec
from support import BF16, FP32, label, store
from thinwire import _core, reference
from thinwire.reference import numerics
from vectors.formula import values
from vectors.parameters import PARAMETERS, defaults

every_codec = pytest.mark.parametrize(
    ("name", "params"),
    [pytest.param(n, p, id=label(n, p)) for n, choices in PARAMETERS.items() for p in choices],
)


@every_codec
def test_error_bounds_hold(name, params):
    native, unit = spec(name, params), reference.CODECS[name].unit(**params)
    n = 8 * unit * max(1, 256 // unit)
    layout = single(name, params, n)
    for kind in ("cubes", "uniform", "positive", "negative"):
        y = values(kind, n, 0, seed=2)
        error = y - decoded(layout, encode(layout, y, key=3).frame)
        blocks, errors = (v.astype(np.float64).reshape(-1, unit) for v in (y, error))
        if native.error_norm == "l2":
            size, error = np.linalg.norm(blocks, axis=1), np.linalg.norm(errors, axis=1)
        else:
            size, error = np.abs(blocks).max(axis=1), np.abs(errors).max(axis=1)
        covered = size >= (2.0**-14 if name == "fp16" else 0)  # the others are no normal numbers in fp16
        assert (error <= native.error_bound * size * (1 + 1e-5))[covered].all()


@every_codec
def test_what_is_delivered_and_what_is_kept_is_all_there_was(target, name, params):
    n, exact = 5000, spec(name, params).error_norm == "max" and "rounding" not in params
    layout, kept = single(name, params, n), np.zeros(5000, dtype=np.float32)
    delivered, wanted = np.zeros(n), np.zeros(n)
    for step in range(10):
        y = values("cubes", n, 0, seed=step)
        got = encode(layout, y, header=_core.Header(step=step), residuals=[kept], key=step)
        back = decoded(layout, got.frame)
        assert not exact or (back + got.residuals[0] == y + kept).all()
        kept, delivered, wanted = got.residuals[0], delivered + back, wanted + y
    assert np.allclose(delivered + kept, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, codec in reference.CODECS.items() if codec.unit() > 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("residual_dtype", [FP32, BF16], ids=["fp32", "bf16"])
def test_what_is_not_finite_spoils_its_block_and_no_residual(target, name, bad, residual_dtype):
    unit = reference.CODECS[name].unit()
    n = 3 * unit + 5
    y, layout = values("uniform", n), single(name, {}, n)
    y[[unit, 3 * unit + 1]] = bad
    old = store(np.zeros(n, dtype=np.float32), residual_dtype)
    got = encode(layout, y, residuals=[old], residual_dtype=residual_dtype)
    header, back = decode(layout, got.frame, np.zeros_like(y))
    spoiled = np.isin(np.arange(n) // unit, [1, 3])
    assert (numerics.bits(back[spoiled]) == numerics.NAN_FP32).all()
    assert np.isfinite(back[~spoiled]).all()
    assert not got.residuals[0][spoiled].any()
    assert (got.nonfinite, header.flags) == (2, _core.FLAG_NONFINITE)


@pytest.mark.parametrize("name", ["raw", "fp16", "bf16"])
def test_cast_codecs_pass_on_what_is_not_finite_and_keep_none_of_it(target, name):
    y = values("uniform", 100)
    y[[0, 17, 99]] = [np.nan, np.inf, -np.inf]
    layout = single(name, {}, 100)
    got = encode(layout, y, residuals=[np.zeros_like(y)])
    back = decoded(layout, got.frame)
    assert numerics.bits(back[[0, 17, 99]]).tolist() == [numerics.NAN_FP32, 0x7F800000, 0xFF800000]
    assert not numerics.bits(got.residuals[0][[0, 17, 99]]).any()
    assert got.nonfinite == 3


def test_what_overflows_in_fp16_counts_as_not_finite(target):
    y = np.full(40, 65519, dtype=np.float32)
    y[3] = 65520
    layout = single("fp16", {}, 40)
    got = encode(layout, y, residuals=[np.zeros_like(y)])
    assert got.nonfinite == 1
    assert got.residuals[0][3] == 0
    assert np.flatnonzero(np.isinf(decoded(layout, got.frame))).tolist() == [3]


@pytest.mark.parametrize("name", [name for name in reference.CODECS if "rounding" in defaults(name)])
def test_stochastic_rounding_has_no_bias(target, name):
    n, rounds = 512, 2000
    y, layout = values("uniform", n, seed=1), single(name, {"rounding": "stochastic"}, n)
    total, out = np.zeros(n, dtype=np.float32), np.zeros(layout.frame_bytes, dtype=np.uint8)
    tail = (layout, _core.Header(), y.ctypes.data, FP32, 1.0, None, None, FP32, None)
    for i in range(rounds):
        _core.encode_frame(*tail, i * 0x9E3779B97F4A7C15 % 2**64, out.ctypes.data, out.size)
        _core.decode_frame(layout, out.ctypes.data, out.size, total.ctypes.data, FP32, True)
    deviation = np.abs(y).max() * spec(name, {}).error_bound / rounds**0.5
    assert np.abs(total / rounds - y).max() < 5 * deviation
    assert abs((total / rounds - y).mean()) < 5 * deviation / n**0.5
