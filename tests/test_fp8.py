"""fp8: the formats of its specification, rounding, and every code on every CPU target."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from core_calls import decoded, encode, single, spec
from thinwire.errors import InvalidArgument
from thinwire.reference import fp8
from vectors.formula import values

formats = pytest.mark.parametrize("format", fp8.FORMATS)
GREATEST_CODE = {"e4m3": 0x7E, "e5m2": 0x7B}


def numbers(format: str) -> np.ndarray:
    """The finite numbers of a format from 0 up, by code."""
    codes = np.arange(GREATEST_CODE[format] + 1, dtype=np.uint8)
    return fp8.from_codes(codes, fp8.FORMATS[format])


def block_of(format: str, probes: np.ndarray) -> np.ndarray:
    """Blocks of 32 in which the scale is 1 and the probes stand as they are, behind the greatest number."""
    rows = -(-probes.size // 31)
    blocks = np.zeros((rows, 32), dtype=np.float32)
    blocks[:, 0] = fp8.FORMATS[format].greatest
    blocks[:, 1:].flat[: probes.size] = probes
    return blocks


def coded(format: str, probes: np.ndarray) -> np.ndarray:
    """What the native codec makes of values at scale 1."""
    blocks = block_of(format, probes)
    layout = single("fp8", {"block": 32, "format": format}, blocks.size)
    back = decoded(layout, encode(layout, blocks.reshape(-1)).frame).reshape(blocks.shape)
    assert (back[:, 0] == fp8.FORMATS[format].greatest).all()
    return back[:, 1:].reshape(-1)[: probes.size]


@formats
def test_the_numbers_are_those_of_the_specification(format):
    form = fp8.FORMATS[format]
    found = numbers(format)
    assert found[0] == 0
    assert found[1] == 2.0 ** (form.least_exponent - form.mantissa)  # the smallest subnormal
    assert found[1 << form.mantissa] == 2.0**form.least_exponent  # the smallest normal
    assert found[-1] == form.greatest
    assert (np.diff(found) > 0).all()
    torch = pytest.importorskip("torch")
    dtype = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}[format]
    assert torch.finfo(dtype).max == form.greatest
    every = torch.arange(256, dtype=torch.uint8)
    theirs, ours = every.view(dtype).float().numpy(), fp8.from_codes(every.numpy(), form)
    finite = np.isfinite(theirs)
    assert finite.sum() == 2 * found.size
    assert theirs[finite].tobytes() == ours[finite].tobytes()


@formats
def test_every_number_arrives_as_it_is(target, format):
    every = np.concatenate([numbers(format), -numbers(format)])
    assert coded(format, every).tobytes() == every.tobytes()


@formats
def test_rounding_is_to_the_nearest_number_half_to_even(target, format):
    exact = [Fraction(float(v)) for v in numbers(format)]
    for code, (low, high) in enumerate(itertools.pairwise(exact)):
        half = np.float32(float((low + high) / 2))
        probes = np.array([np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1e9))])
        even = low if code % 2 == 0 else high
        assert coded(format, probes).tolist() == [float(low), float(even), float(high)]
        assert coded(format, -probes).tolist() == [-float(low), -float(even), -float(high)]


@formats
def test_stochastic_rounding_takes_the_neighbours_as_often_as_is_right(target, format):
    every = numbers(format)
    low, high = every[:-1], every[1:]
    y = block_of(format, low + (high - low) * np.float32(0.25))
    layout = single("fp8", {"block": 32, "format": format, "rounding": "stochastic"}, y.size)
    ups, rounds = np.zeros(low.size), 400
    for key in range(rounds):
        frame = encode(layout, y.reshape(-1), key=key * 0x9E3779B97F4A7C15 % 2**64).frame
        back = decoded(layout, frame).reshape(y.shape)[:, 1:].reshape(-1)[: low.size]
        assert ((back == low) | (back == high)).all()
        ups += back == high
    assert np.abs(ups / rounds - 0.25).max() < 5 * (0.25 * 0.75 / rounds) ** 0.5


@formats
def test_an_error_is_small_against_the_value_itself(format):
    """What sets it apart from int8: half a unit in the last place, and half the smallest number below."""
    form, y = fp8.FORMATS[format], values("cubes", 4096, seed=5)
    layout = single("fp8", {"format": format}, y.size)
    error = np.abs(y - decoded(layout, encode(layout, y).frame)).reshape(-1, 256)
    size = np.abs(y).reshape(-1, 256)
    scale = size.max(axis=1, keepdims=True) / form.greatest * (1 + 2.0**-7)
    assert (error <= np.maximum(size * 2.0 ** -(form.mantissa + 1), numbers(format)[1] / 2 * scale)).all()


def test_each_format_states_its_own_bound():
    assert spec("fp8", {}).error_bound == pytest.approx(0.5 / 14 * (1 + 2**-7))
    assert spec("fp8", {"format": "e5m2"}).error_bound == pytest.approx(0.5 / 7 * (1 + 2**-7))


def test_the_reference_names_the_formats_it_has():
    with pytest.raises(InvalidArgument, match=r"format must be one of \['e4m3', 'e5m2'\], not 'e3m4'"):
        fp8.wire_param(format="e3m4")
