"""The reference's codecs against their pages in docs/wire: sizes, bounds, special values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from support import label
from thinwire.errors import CorruptFrame, InvalidArgument
from thinwire.reference import CODECS, numerics, resolve, topk
from vectors.formula import KINDS, values
from vectors.parameters import PARAMETERS

CASES = [pytest.param(n, p, id=label(n, p)) for n, every in PARAMETERS.items() for p in every]
MEAN_CODECS = ["int2", "ternary", "sign1"]
BLOCK_CODECS = ["fp8", "int8", "int4", *MEAN_CODECS]


def coded(name, y, params, **extra):
    """Return (decoded, residual), after checks that hold for every codec and input."""
    codec = CODECS[name]
    payload, residual = codec.encode(y, **extra, **params)
    assert len(payload) == codec.payload_bytes(y.size, **params)
    assert len(payload) % 16 == 0
    decoded = codec.decode(payload, y.size, **params)
    assert decoded.dtype == residual.dtype == np.float32
    assert decoded.shape == residual.shape == y.shape
    assert np.isfinite(residual[np.isfinite(y)]).all()
    assert (numerics.bits(residual[~np.isfinite(decoded)]) == 0).all()
    assert set(numerics.bits(decoded[np.isnan(decoded)])) <= {numerics.NAN_FP32}
    return decoded, residual


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_round_trips(name, params, kind):
    y = values(kind, 3000, -4, seed=3)
    decoded, residual = coded(name, y, params, step=1, key=7)
    finite = np.isfinite(decoded)
    y, decoded, residual = (v[finite].astype(np.float64) for v in (y, decoded, residual))
    assert (np.abs(decoded + residual - y) <= 2.0**-24 * np.maximum(np.abs(y), np.abs(residual))).all()


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1023, 1024, 1025])
def test_every_length_round_trips(name, params, n):
    coded(name, values("cubes", n, -10, seed=n), params)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_decoding_a_payload_of_the_wrong_length_is_refused(name, params):
    payload, _ = CODECS[name].encode(values("uniform", 100), **params)
    for wrong in (payload[:-16], payload + bytes(16), b""):
        with pytest.raises(CorruptFrame, match="bytes, expected"):
            CODECS[name].decode(wrong, 100, **params)


@pytest.mark.parametrize("name", ["raw", "fp16", "bf16", "fp8", "int8", "int4"])
def test_nearest_rounding_loses_nothing(name):
    for exponent in (-30, 0, 5):
        y = values("cubes", 5000, exponent, seed=exponent + 40)
        decoded, residual = coded(name, y, {})
        assert (decoded + residual == y).all()


@pytest.mark.parametrize(("name", "greatest"), [("int8", 127), ("int4", 7)])
@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
@pytest.mark.parametrize("block", [32, 256])
def test_absmax_codecs_keep_their_error_bound(name, greatest, mode, block):
    y = values("cubes", 64 * block, 2, seed=block)
    _, residual = coded(name, y, {"block": block, "rounding": mode}, key=11)
    most = np.abs(y).reshape(-1, block).max(axis=1)
    steps = np.abs(residual).reshape(-1, block).max(axis=1) / (most / greatest * (1 + 2.0**-7))
    assert steps.max() <= (0.5 if mode == "nearest" else 1.0) * (1 + 1e-5)


@pytest.mark.parametrize(("name", "params"), [(n, p) for n in (*MEAN_CODECS, "topk") for p in PARAMETERS[n]])
def test_mean_and_topk_codecs_never_add_error(name, params):
    unit = CODECS[name].unit(**params)
    for kind in ("cubes", "uniform", "positive", "sparse"):
        y = values(kind, unit * max(1, 4096 // unit), 0, seed=9)
        _, residual = coded(name, y, params)
        before = (y.astype(np.float64).reshape(-1, unit) ** 2).sum(axis=1)
        after = (residual.astype(np.float64).reshape(-1, unit) ** 2).sum(axis=1)
        assert (after <= before * (1 + 1e-6)).all()


@pytest.mark.parametrize(("name", "distortion"), [("int2", 0.1175), ("ternary", 0.1902)])
def test_fitted_codecs_reach_the_least_distortion_of_their_levels(name, distortion):
    """That of Max's quantiser, which knows the distribution; the fit knows the block."""
    normal = np.random.default_rng(1).standard_normal(160 * 1024).astype(np.float32)
    _, residual = coded(name, normal, {})
    assert 0.95 * distortion < (residual.astype(np.float64) ** 2).mean() < distortion


@pytest.mark.parametrize(("name", "block"), [("int2", 64), ("int2", 512), ("ternary", 80), ("ternary", 320)])
def test_a_fitted_scale_is_the_least_squares_fit(name, block):
    codec, y = CODECS[name], values("cubes", 64 * block, 3, seed=block)
    payload, _ = codec.encode(y, block=block)
    scales = numerics.from_bf16(np.frombuffer(payload, dtype="<u2")[:64])
    inner = getattr(codec, "INNER", 0)
    magnitude = np.abs(y.astype(np.float64)).reshape(64, block)
    outer = magnitude > magnitude.mean(axis=1, keepdims=True) * codec.OUTER_FROM
    level = np.where(outer, 1, inner)
    fit = (magnitude * level).sum(axis=1) / (level**2).sum(axis=1)
    assert (scales >= fit * (1 - 1e-6)).all()
    assert (scales <= fit * (1 + 2.0**-7 + 1e-6)).all()


def test_a_fit_that_is_too_great_makes_the_block_nan():
    y = np.zeros(160, dtype=np.float32)
    y[7] = 1.5 * 2.0**127  # the mean magnitude is small
    assert np.isnan(coded("ternary", y, {})[0]).all()
    y[7] = 2.0**126
    assert coded("ternary", y, {})[0][7] == y[7]


def test_cast_codecs_keep_their_error_bound():
    y = values("finite", 5000, seed=2)
    normal = np.abs(y) >= 2.0**-126
    decoded, residual = coded("bf16", y, {})
    assert (np.abs(residual) <= np.abs(y) * 2.0**-8)[normal & np.isfinite(decoded)].all()
    y = values("cubes", 5000, 15)
    _, residual = coded("fp16", y, {})
    assert (np.abs(residual) <= np.abs(y) * 2.0**-11 + 2.0**-25).all()


@pytest.mark.parametrize("name", BLOCK_CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**127, 3.4e38])
def test_a_bad_value_spoils_its_block_alone(name, bad):
    block = CODECS[name].unit()
    y = values("uniform", 4 * block, seed=1)
    clean, clean_residual = coded(name, y, {})
    if name in MEAN_CODECS and np.isfinite(bad):
        y[block : 2 * block] = bad  # here the mean must be huge
    y[block + 3] = bad
    decoded, residual = coded(name, y, {})
    spoiled = np.arange(y.size) // block == 1
    assert (np.isnan(decoded) == spoiled).all()
    assert (decoded[~spoiled] == clean[~spoiled]).all()
    assert (residual == np.where(spoiled, 0, clean_residual)).all()


@pytest.mark.parametrize("name", [*BLOCK_CODECS, "topk"])
@pytest.mark.parametrize("exponent", [-101, -140])
def test_tiny_values_stay_in_the_residual(name, exponent):
    y = values("uniform", 1024, exponent)
    decoded, residual = coded(name, y, {})
    assert (numerics.bits(decoded) == 0).all()
    assert residual.tobytes() == y.tobytes()


def test_a_scale_base_just_at_the_floor_is_coded():
    y = np.full(64, 2.0**-100, dtype=np.float32)
    for name in BLOCK_CODECS:
        assert (coded(name, y, {})[0] > 0).all()
        assert (coded(name, np.nextafter(y, np.float32(0)), {})[0] == 0).all()


def test_half_steps_round_to_even():
    y = np.zeros(64, dtype=np.float32)
    y[:8] = [7, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 6.5]
    assert coded("int4", y, {})[0][:8].tolist() == [7, 0, 2, 2, 0, -2, -2, 6]


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_stochastic_rounding_has_no_bias(name):
    y = values("uniform", 64, seed=8)
    params = {"rounding": "stochastic"}
    keys = [k * 0x9E3779B97F4A7C15 % 2**64 for k in range(4000)]
    mean = np.mean([coded(name, y, params, key=key)[0] for key in keys], axis=0)
    scale = np.abs(y).max() / CODECS[name].GREATEST * 1.01
    assert np.abs(mean - y).max() < 5 * scale * 0.5 / math.sqrt(4000)


def test_another_key_gives_other_codes():
    y = values("uniform", 2000)
    first, second, again = (CODECS["int4"].encode(y, key=key, rounding="stochastic")[0] for key in (1, 2, 1))
    assert first != second
    assert first == again


def slow_topk_selection(y, threshold, most):
    """topk.md, "Selection", word by word."""
    in_row, taken = {}, []
    for i, magnitude in enumerate(numerics.mag(y)):
        if magnitude >= threshold and in_row.get(i // 256, 0) < 255 and len(taken) < most:
            taken.append(i)
            in_row[i // 256] = in_row.get(i // 256, 0) + 1
    return taken


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["cubes", "ties7", "sparse", "nonfinite", "zeros", "positive"])
def test_topk_selects_as_written(kind, density):
    y = values(kind, 3000, 0, seed=4)
    for threshold in (1, topk.sampled_threshold(y, density, 0), int(numerics.mag(np.float32([0.5]))[0])):
        for most in (0, 10, topk.cap(3000, density), 3000):
            assert topk.select(y, threshold, most).tolist() == slow_topk_selection(y, threshold, most)


def test_topk_takes_at_most_255_of_a_row():
    y = np.ones(1024, dtype=np.float32)
    payload, residual = topk.encode(y, density=0.5, threshold=1)
    decoded = topk.decode(payload, 1024, density=0.5)
    assert list(payload[:4]) == [255, 255, 54, 0]  # 564 = cap
    assert (decoded[255], residual[255]) == (0, 1)
    assert topk.cap(1024, 0.5) == 564


def test_topk_never_sends_zeros_and_signs_need_no_more_entries():
    y = values("sparse", 5000, 0)
    payload, _ = topk.encode(y, density=0.5)
    assert sum(payload[:20]) == np.count_nonzero(y)


@pytest.mark.parametrize("n", [65536, 65537, 131072, 200_000])
def test_topk_samples_the_chunks_of_its_step(n):
    y = values("cubes", n, 0, seed=6)
    every = max(1, n // 65536) if n > 65536 else 1
    for step in (0, 1, 2):
        picked = [c for c in range(-(-n // 64)) if c % every == step % every]
        sample = sorted(int(m) for c in picked for m in numerics.mag(y[64 * c : 64 * c + 64]))
        k = math.ceil(30000 * n / 10**6)
        rank = max(1, math.ceil(k * len(sample) / n))
        assert topk.sampled_threshold(y, 0.03, step) == max(1, sample[-rank] >> 9 << 9)


def test_topk_spoils_whole_groups():
    y = values("cubes", 3000, 0)
    y[1024 + 5] = np.nan  # a NaN is an entry
    y[2048 + 9] = np.inf
    decoded, _ = coded("topk", y, {})
    assert (np.isnan(decoded) == (np.arange(3000) >= 1024)).all()
    payload, _ = topk.encode(y, threshold=0x7FFFFFFF)  # without entries
    assert (np.isnan(topk.decode(payload, 3000)) == (np.arange(3000) >= 1024)).all()


@pytest.mark.parametrize("values_kind", topk.VALUE_BITS)
def test_topk_with_an_explicit_threshold(values_kind):
    y = np.zeros(300, dtype=np.float32)
    y[[3, 10, 299]] = [4.0, -2.0, 1.0]
    threshold = int(numerics.mag(np.float32([2.0]))[0])
    payload, _ = topk.encode(y, values=values_kind, threshold=threshold)
    decoded = topk.decode(payload, 300, values=values_kind)
    assert np.flatnonzero(decoded).tolist() == [3, 10]
    assert np.sign(decoded[[3, 10]]).tolist() == [1, -1]
    if values_kind == "fp16":
        assert decoded[[3, 10]].tolist() == [4.0, -2.0]


def topk_payload(counts, offsets, n=600, density=0.03):
    """A payload with hostile counts and offsets."""
    fields = [np.zeros(size, dtype=np.uint8) for size in topk.section_bytes(n, density, "sign")]
    fields[0][: len(counts)] = counts
    fields[2][: len(offsets)] = offsets
    return b"".join(f.tobytes().ljust(-(-f.size // 16) * 16, b"\0") for f in fields)


@pytest.mark.parametrize(
    ("counts", "offsets"),
    [
        ([255, 255, 255], []),
        ([20, 1], range(20)),
        ([2], [5, 5]),
        ([2], [6, 5]),
        ([0, 3], [1, 3, 2]),
        ([0, 0, 1], [88]),
        ([1, 0, 2], [0, 3, 200]),
    ],
)
def test_topk_refuses_counts_and_offsets_that_cannot_be(counts, offsets):
    with pytest.raises(CorruptFrame, match="topk"):
        topk.decode(topk_payload(counts, offsets), 600)


def test_topk_accepts_rows_that_start_over():
    topk.decode(topk_payload([2, 1, 1], [5, 255, 0, 87]), 600)


def test_raw_takes_over_where_it_is_smaller():
    assert resolve("int8", 3, {}) == ("raw", {})
    assert resolve("int8", 64, {}) == ("raw", {})
    assert resolve("int8", 69, {}) == ("int8", {})  # 288 bytes against 272
    assert resolve("topk", 0, {}) == ("raw", {})
    assert resolve("raw", 10, {}) == ("raw", {})
    assert resolve("int4", 64, {"block": 32}) == ("int4", {"block": 32})


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("int8", {"block": 16}),
        ("int4", {"block": 48}),
        ("int2", {"block": 32}),
        ("ternary", {"block": 128}),
        ("sign1", {"block": 8192}),
        ("topk", {"density": 0.0}),
        ("topk", {"density": 0.6}),
        ("topk", {"density": float("nan")}),
        ("topk", {"values": "fp32"}),
    ],
)
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(InvalidArgument, match=next(iter(params))):
        CODECS[name].payload_bytes(100, **params)
