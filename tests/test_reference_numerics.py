"""The reference's number formats, sums and random numbers, against plain Python."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest

from thinwire.errors import CorruptFrame, InvalidArgument
from thinwire.reference import hashing, numerics, rounding, sections
from vectors.formula import values


def nearest_even(value: Fraction, candidates: list[tuple[int, Fraction]]) -> int:
    """Return the bits of the nearest candidate, of two equally near ones the even."""
    return min(candidates, key=lambda c: (abs(c[1] - value), c[0] & 1))[0]


def magnitudes(to_float, patterns: range) -> list[tuple[int, Fraction]]:
    wide = to_float(np.array(patterns, dtype=np.uint16))
    return [(b, Fraction(float(v))) for b, v in zip(patterns, wide, strict=True)]


@pytest.mark.parametrize("pattern", [0, 1, 2, 0x3F, 0x7F, 0x80, 0x81, 0x3F80, 0x3FFF, 0x4000, 0x7F7E])
def test_bf16_rounds_to_nearest_even(pattern):
    low = pattern << 16
    probes = np.array([low, low + 1, low + 0x7FFF, low + 0x8000, low + 0x8001, low + 0xFFFF], dtype=np.uint32)
    candidates = magnitudes(numerics.from_bf16, range(pattern, pattern + 2))
    for probe, got in zip(probes.view(np.float32), numerics.to_bf16(probes.view(np.float32)), strict=True):
        assert got == nearest_even(Fraction(float(probe)), candidates)
        assert numerics.to_bf16(np.float32([-probe]))[0] == got | 0x8000


@pytest.mark.parametrize("pattern", [0, 1, 2, 0x3FF, 0x400, 0x401, 0x3C00, 0x3FFF, 0x4000, 0x7BFE])
def test_fp16_rounds_to_nearest_even(pattern):
    (_, low), (_, high) = candidates = magnitudes(numerics.from_fp16, range(pattern, pattern + 2))
    half = np.float32(float((low + high) / 2))
    below, above = np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(1e9))
    for probe in (np.float32(float(low)), below, half, above):
        got = numerics.to_fp16(np.array([probe, -probe]))
        assert got[0] == nearest_even(Fraction(float(probe)), candidates)
        assert got[1] == got[0] | 0x8000


def test_every_bf16_and_fp16_survives_the_way_there_and_back():
    every = np.arange(65536, dtype=np.uint16)
    for to, back, nan in (
        (numerics.to_bf16, numerics.from_bf16, numerics.NAN_BF16),
        (numerics.to_fp16, numerics.from_fp16, numerics.NAN_FP16),
    ):
        wide = back(every)
        assert (to(wide) == np.where(np.isnan(wide), nan, every)).all()
        assert set(numerics.bits(wide[np.isnan(wide)])) == {numerics.NAN_FP32}


def test_overflow_becomes_infinity_and_every_nan_the_canonical_one():
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], dtype=np.uint32).view(np.float32)
    assert set(numerics.to_bf16(nans)) == {numerics.NAN_BF16}
    assert set(numerics.to_fp16(nans)) == {numerics.NAN_FP16}
    assert set(numerics.bits(numerics.canonical(nans))) == {numerics.NAN_FP32}
    assert numerics.to_fp16(np.float32([65519, 65520, -65520])).tolist() == [0x7BFF, 0x7C00, 0xFC00]
    assert numerics.to_bf16(np.array([0x7F7F8000], dtype=np.uint32).view(np.float32))[0] == 0x7F80


def test_bf16_up_gives_the_smallest_that_is_not_below():
    v = np.abs(values("finite", 4000, seed=5))
    up = numerics.bf16_up(v)
    assert (numerics.from_bf16(up) >= v).all()
    below = numerics.from_bf16(np.maximum(up, 1) - 1)
    assert ((below < v) | (v == 0)).all()


def test_magnitude_bits_order_like_magnitudes():
    v = np.sort(np.abs(values("finite", 1000, seed=1)))
    assert (np.diff(numerics.mag(np.concatenate([v, [np.inf, np.nan]])).astype(np.int64)) >= 0).all()
    assert (numerics.mag(-v) == numerics.mag(v)).all()


def one_sum16(v: list[np.float32]) -> np.float32:
    """conventions.md word by word."""
    lane = [np.float32(0)] * 16
    for i, value in enumerate(v):
        lane[i % 16] = lane[i % 16] + value
    for half in (8, 4, 2, 1):
        for j in range(half):
            lane[j] = lane[j] + lane[j + half]
    return lane[0]


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100, 1024])
def test_sum16_adds_in_the_written_order(n):
    rows = values("cubes", 3 * n, 5, seed=n).reshape(3, n)
    assert numerics.sum16(rows).tobytes() == np.array([one_sum16(list(row)) for row in rows]).tobytes()


def test_encoder_input_is_a_product_then_a_sum():
    x, residual = values("uniform", 500, 3, seed=1), values("uniform", 500, -9, seed=2)
    product = x * np.float32(0.3)
    assert numerics.encoder_input(x, 0.3).tobytes() == product.tobytes()
    assert numerics.encoder_input(x, 0.3, residual).tobytes() == (product + residual).tobytes()


def test_accumulate_canonicalises_and_adds_plus_zero():
    out = np.array([0x80000000, 0xFFC00001, 0x3F800000], dtype=np.uint32).view(np.float32)
    added = numerics.accumulate(out, np.zeros(3, dtype=np.float32))
    assert numerics.bits(added).tolist() == [0, numerics.NAN_FP32, 0x3F800000]


def one_u(i: int, key: int) -> float:
    """conventions.md word by word, on Python integers."""

    def mix(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    h = mix(mix((i + key) % 2**32) ^ key >> 32)
    return (h >> 8) * 2.0**-24


def test_uniform_numbers_are_those_of_the_document():
    for key in (0, 1, 0xFFFFFFFF, 0x123456789ABCDEF0):
        assert rounding.uniform(50, key).tolist() == [one_u(i, key) for i in range(50)]


def test_uniform_numbers_are_uniform():
    u = np.concatenate([rounding.uniform(20_000, key * 0x9E3779B97F4A7C15 % 2**64) for key in range(10)])
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(counts - 10_000).max() < 500  # five standard deviations


def test_stochastic_codes_stay_within_the_greatest():
    v = np.full(100_000, 7.000001, dtype=np.float32)
    assert set(rounding.round_codes(v, 7, "stochastic", 3)) == {7}
    assert set(rounding.round_codes(-v, 7, "stochastic", 3)) == {-7}


def test_an_unknown_rounding_is_refused():
    with pytest.raises(InvalidArgument, match="rounding"):
        rounding.round_codes(np.zeros(1, dtype=np.float32), 7, "up", 0)


def test_the_stochastic_key_hashes_seed_and_step():
    import xxhash

    assert rounding.stochastic_key(3, 9) == xxhash.xxh3_64_intdigest(struct.pack("<QQ", 3, 9))


def test_hashing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(ImportError, match=r"pip install 'thinwire\[test\]'"):
        hashing.xxh3_64(b"")


def test_sections_are_aligned_and_filled_with_zeros():
    payload = sections.join(*(np.arange(size, dtype=np.uint8) for size in (3, 0, 17)))
    assert payload == bytes(range(3)) + bytes(13) + bytes(range(17)) + bytes(15)
    first, second, third = sections.split(payload, 3, 0, 17)
    assert (first.tolist(), second.size, third.tolist()) == ([0, 1, 2], 0, list(range(17)))
    with pytest.raises(CorruptFrame, match="48 bytes, expected 32"):
        sections.split(payload, 3, 1)


def exactly(a: float, b: float, c: float) -> Fraction:
    return Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))


def is_nearest_even(found: np.float32, exact: Fraction) -> bool:
    """Say whether no fp32 is nearer, and no equally near one even."""
    if not np.isfinite(found):
        half_above = Fraction(2) ** 128 - Fraction(2) ** 103  # from here on to nearest is infinity
        return bool(np.isinf(found)) and (exact > 0) == (found > 0) and abs(exact) >= half_above
    neighbours = [found, np.nextafter(found, np.float32(np.inf)), np.nextafter(found, np.float32(-np.inf))]
    candidates = [
        (int(bits), Fraction(float(v)))
        for bits, v in zip(numerics.mag(np.array(neighbours)), neighbours, strict=True)
        if np.isfinite(v)
    ]
    return nearest_even(exact, candidates) == int(numerics.mag(np.array([found]))[0])


@pytest.mark.parametrize("kind", ["cubes", "anything", "denormal", "huge", "ties127"])
def test_multiply_add_rounds_once(kind):
    a, b, c = (values(kind, 2000, seed=seed) for seed in (1, 2, 3))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        cancelling = -(a * b)  # what the product loses when it is rounded is all that is left
    tiny = values("denormal", 2000, seed=4)
    for addend in (c, cancelling, tiny, np.zeros_like(c)):
        for x, y, z, found in zip(a, b, addend, numerics.multiply_add(a, b, addend), strict=True):
            if np.isfinite([x, y, z]).all():
                assert is_nearest_even(found, exactly(x, y, z)), (x, y, z, found)
            else:
                assert not np.isfinite(found)


@pytest.mark.parametrize(("sign", "last"), [(1, 2.0**-23), (0, 0.0), (-1, 0.0)])
def test_multiply_add_where_rounding_twice_goes_wrong(sign, last):
    """The product is a tie between two fp32; the addend that decides is below the last bit of fp64."""
    a = np.float32(1 + 2.0**-12)
    assert numerics.multiply_add(a, a, np.float32(sign * 2.0**-60)) == np.float32(1 + 2.0**-11 + last)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_multiply_add_keeps_the_sign_of_zero_as_ieee_does(zero):
    a, c = np.float32(zero), np.float32(zero)
    want = np.float32(zero) * np.float32(1) + np.float32(zero)
    assert np.signbit(numerics.multiply_add(a, np.float32(1), c)) == np.signbit(want)
    assert not np.signbit(numerics.multiply_add(np.float32(1), np.float32(1), np.float32(-1)))
