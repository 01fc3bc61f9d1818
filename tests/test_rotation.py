"""rotate=true: the transform itself, what it does for int4 and int2, and the ends of a segment."""

from __future__ import annotations

import numpy as np
import pytest

import thinwire as tw
from core_calls import decode, decoded, encode, single, spec
from support import same_bits
from thinwire.reference import int2, int4, numerics, rotation
from vectors.formula import values

ROTATE = {"rotate": True}
names = pytest.mark.parametrize("name", ["int4", "int2"])


def sylvester(block: int) -> np.ndarray:
    """The Hadamard matrix by its definition: the sign is the parity of the common bits of both indices."""
    common = np.arange(block)[:, None] & np.arange(block)[None, :]
    parity = np.array([[value.bit_count() & 1 for value in row] for row in common.tolist()])
    return 1.0 - 2.0 * parity


def error_of(name: str, y: np.ndarray, **params: object) -> float:
    """The L2 norm of what one encoding leaves, as a part of y's."""
    layout = single(name, params, y.size)
    error = y.astype(np.float64) - decoded(layout, encode(layout, y).frame)
    return float(np.linalg.norm(error) / np.linalg.norm(y))


@pytest.mark.parametrize("block", [32, 64, 256])
def test_it_is_the_walsh_hadamard_transform_of_flipped_values(block):
    y = np.random.default_rng(block).integers(-100, 100, (3, block)).astype(np.float32)
    flips = rotation.flips(block)
    assert set(flips.tolist()) == {-1.0, 1.0}
    assert abs(flips.sum()) < 4 * block**0.5
    assert (rotation.rotated(y) == (y * flips) @ sylvester(block)).all()


@pytest.mark.parametrize("block", [32, 4096])
def test_the_way_back_undoes_the_way_there(block):
    y = np.random.default_rng(block).integers(-100, 100, (3, block)).astype(np.float32)
    back = rotation.rotate_back(rotation.rotated(y), np.array([True, True, False]))
    assert (back[:2] == y[:2]).all()
    assert (back[2] == rotation.rotated(y)[2]).all()  # a block without codes


@names
def test_it_spreads_what_stands_out(target, name):
    """One value that is fifty times as great as the others takes all of a block's codes without it."""
    y = np.random.default_rng(1).standard_normal(4096).astype(np.float32)
    y[::64] = 50
    assert error_of(name, y, rotate=True) < 0.75 * error_of(name, y)
    params = {"block": 256}
    assert error_of(name, y, rotate=True, **params) < 0.75 * error_of(name, y, **params)


@names
def test_structured_blocks_do_not_line_up_with_it(name):
    """The rows of the transform are what it would leave as one spike, without the flips."""
    for row in (0, 1, 5, 63):
        y = np.tile(sylvester(64)[row], 16).astype(np.float32)
        coded = rotation.rotated(y.reshape(16, 64))
        assert np.abs(coded).max() < 0.6 * 64
        assert error_of(name, y, block=64, rotate=True) < 0.4


@names
def test_a_ragged_end_loses_nothing(target, name):
    """The padding takes part in the rotation, and its error is nobody's."""
    module = {"int4": int4, "int2": int2}[name]
    for n in (1, 63, 65, 200):
        y = values("cubes", n, seed=n)
        payload, residual = module.encode(y, block=64, rotate=True)
        back = module.decode(payload, n, block=64, rotate=True)
        assert (numerics.bits(residual) == numerics.bits(y - back)).all()
        assert np.linalg.norm(residual) <= np.linalg.norm(y) * (1 + 1e-6)
        layout = single(name, {"block": 64, "rotate": True}, n)
        if layout.segments[0][1].name == name:  # else raw, which is smaller
            got = encode(layout, y, residuals=[np.full_like(y, -0.0)])
            assert got.frame[96:] == payload
            assert same_bits(got.residuals[0], residual)


@names
def test_zeros_and_blocks_that_are_not_coded_decode_as_without(target, name):
    n = 4 * 256
    y = values("uniform", n, 0, seed=2)
    y[:256] = 0
    y[256:512] = np.float32(2.0**-110)  # with its sums, still below 2^-100
    y[512] = np.inf
    layout = single(name, {"block": 256, "rotate": True}, n)
    got = encode(layout, y, residuals=[np.zeros_like(y)])
    back = decoded(layout, got.frame)
    assert not numerics.bits(back[:512]).any()  # +0
    assert (numerics.bits(back[512:768]) == numerics.NAN_FP32).all()
    assert np.isfinite(back[768:]).all()
    assert same_bits(got.residuals[0][:512], y[:512])
    assert not got.residuals[0][512:768].any()
    assert got.nonfinite == 1


def test_sums_that_overflow_make_the_block_nan_and_no_residual(target):
    """Its own values are finite, and without the rotation it would be coded."""
    y = np.full(64, 1.5 * 2.0**126, dtype=np.float32) * rotation.flips(64)
    for params, is_nan in (({"block": 64}, False), ({"block": 64, "rotate": True}, True)):
        layout = single("int4", params, 64)
        got = encode(layout, y, residuals=[np.zeros_like(y)])
        assert np.isnan(decoded(layout, got.frame)).all() == is_nan
        assert np.isfinite(got.residuals[0]).all()
        assert got.nonfinite == is_nan


@pytest.mark.parametrize(("name", "exponent"), [("int4", 114), ("int2", 102)])
def test_great_values_that_are_coded_decode_to_finite_ones(target, name, exponent):
    """int2 adds the magnitudes of a block for its scale."""
    for kind in ("uniform", "positive", "sparse"):
        y = values(kind, 4096, exponent, seed=4)
        layout = single(name, {"block": 4096, "rotate": True}, y.size)
        got = encode(layout, y, residuals=[np.zeros_like(y)])
        assert got.nonfinite == 0
        assert np.isfinite(decoded(layout, got.frame)).all()
        assert np.isfinite(got.residuals[0]).all()


@names
def test_adding_up_is_adding_what_is_decoded(target, name):
    layout, start = single(name, ROTATE, 1000), values("uniform", 1000, seed=3)
    frame = encode(layout, values("cubes", 1000)).frame
    _, total = decode(layout, frame, start, accumulate=True)
    assert same_bits(total, start + decoded(layout, frame))


def test_the_error_it_states_holds_and_is_of_the_norm():
    for params in ({"block": 32}, {"block": 64}, {"block": 64, "rounding": "stochastic"}):
        plain, rotated = spec("int4", params), spec("int4", params | ROTATE)
        assert rotated.error_norm == "l2"
        assert rotated.error_bound == pytest.approx(plain.error_bound * params["block"] ** 0.5)
        y = values("sparse", 4096, seed=6)  # one value a block or two: a spike, and all codes at their limit
        assert error_of("int4", y, **params | ROTATE) <= rotated.error_bound * (1 + 1e-5)


def test_stochastic_rounding_of_rotated_values_has_no_bias():
    y, rounds = values("uniform", 256, seed=1), 1000
    codec = tw.codec("int4", rotate=True, rounding="stochastic")
    mean = np.mean([codec.decode(codec.encode(y, seed=seed)) for seed in range(rounds)], axis=0)
    step = np.abs(rotation.rotated(y.reshape(4, 64))).max() / 7 / 64**0.5  # in the rotated block
    assert np.abs(mean - y).max() < 5 * step * 0.5 / rounds**0.5


def test_frames_of_rotated_and_other_blocks_are_not_taken_for_each_other():
    x = values("uniform", 1000)
    plain, rotated = tw.codec("int4"), tw.codec("int4:rotate=true")
    assert rotated.bound(1000) == plain.bound(1000)
    with pytest.raises(tw.CorruptFrame, match="codec 5 with param 131136; int4 writes codec 5 with param 64"):
        plain.decode(rotated.encode(x))
    with pytest.raises(tw.CorruptFrame, match="int4:rotate=true writes"):
        rotated.decode(plain.encode(x))
