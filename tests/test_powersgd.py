"""Factors of a matrix: the reference's bits on every CPU target; what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from support import BF16, FP16, FP32, Array, Guarded, same_bits, store, widen
from thinwire import _core
from thinwire.errors import InvalidArgument
from thinwire.reference import basis, numerics, powersgd
from vectors.formula import values

SHAPES = [(64, 1, 1), (64, 96, 8), (65, 50, 4), (130, 33, 9), (40, 70, 32), (300, 16, 13)]
"""Rows, columns and rank."""
SPECIAL = ["zeros", "negative_zeros", "denormal", "huge", "nonfinite", "sparse", "finite", "anything"]

every_shape = pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
every_side = pytest.mark.parametrize("is_left", [True, False], ids=["left", "right"])


class Matrix:
    """A matrix's factors, the same for every test: random ones."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        self.left, self.right = (Guarded(basis.begin(n, rank, key=n)) for n in (rows, columns))
        self.native = _core.LowRank(rows, columns, rank, self.left.ptr, self.right.ptr)
        self.rank, self.shape = rank, (rows, columns)

    def side(self, is_left: bool) -> numerics.F32:
        rows, columns = self.shape
        side, count = (self.left, rows) if is_left else (self.right, columns)
        return side.array.reshape(self.rank, count)

    def wanted(self, is_left: bool, y: numerics.F32) -> numerics.F32:
        other = self.side(not is_left)
        return powersgd.left_factor(other, y) if is_left else powersgd.right_factor(other, y)

    def factor(
        self,
        is_left: bool,
        x: Array,
        dtype: int = FP32,
        scale: float = 1.0,
        residual: Array | None = None,
        residual_dtype: int = FP32,
    ) -> numerics.F32:
        source, old = Guarded(x), None if residual is None else Guarded(residual)
        out = Guarded(np.full_like(self.side(is_left), 9))
        self.native.factor(is_left, source.ptr, dtype, scale, old.ptr if old else 0, residual_dtype, out.ptr)
        assert source.unchanged()
        assert out.intact()
        assert self.left.unchanged()
        assert self.right.unchanged()
        return out.array.reshape(self.side(is_left).shape).copy()

    def pair(self, is_left: bool, factor: numerics.F32) -> tuple[numerics.F32, numerics.F32]:
        """Return a factor and the other one, left first."""
        return (factor, self.side(False)) if is_left else (self.side(True), factor)


def orthonormal(factor: numerics.F32) -> numerics.F32 | None:
    rank, length = factor.shape
    source, out = Guarded(factor), Guarded(np.full_like(factor, 9))
    found = _core.orthonormal_factor(length, rank, source.ptr, out.ptr)
    assert source.unchanged()
    assert out.intact()
    return out.array.reshape(factor.shape).copy() if found else None


def matrix_of(kind: str, rows: int, columns: int, exponent: int = 0, seed: int = 0) -> numerics.F32:
    return values(kind, rows * columns, exponent, seed).reshape(rows, columns)


def distance_from_orthonormal(vectors: numerics.F32) -> float:
    wide = vectors.astype(np.float64)
    return float(np.abs(wide @ wide.T - np.eye(len(vectors))).max())


@every_shape
@every_side
@pytest.mark.parametrize(("dtype", "residual_dtype"), [(FP32, FP32), (FP16, FP32), (BF16, BF16)])
def test_a_step_gives_the_bits_of_the_reference(target, rows, columns, rank, is_left, dtype, residual_dtype):
    matrix = Matrix(rows, columns, rank)
    x = store(matrix_of("cubes", rows, columns, seed=1), dtype)
    old = store(matrix_of("cubes", rows, columns, -4, seed=2), residual_dtype)
    y = numerics.encoder_input(widen(x, dtype), 0.3, widen(old, residual_dtype))
    sent = matrix.factor(is_left, x, dtype, 0.3, old, residual_dtype)
    assert same_bits(sent, matrix.wanted(is_left, y))

    mean = matrix_of("cubes", *sent.shape, seed=3)
    out, kept, given, got = Guarded(x), Guarded(old), Guarded(sent), Guarded(mean)
    matrix.native.deliver(
        is_left, out.ptr, dtype, 0.3, kept.ptr, kept.ptr, residual_dtype, given.ptr, got.ptr
    )
    assert out.intact()
    assert kept.intact()
    assert given.unchanged()
    assert got.unchanged()
    assert same_bits(out.array.reshape(x.shape), store(powersgd.received(*matrix.pair(is_left, mean)), dtype))
    want = powersgd.kept(y, *matrix.pair(is_left, sent))
    assert same_bits(kept.array.reshape(old.shape), store(want, residual_dtype))


@every_side
@pytest.mark.parametrize("kind", SPECIAL)
def test_special_values_give_the_bits_of_the_reference(target, kind, is_left):
    matrix = Matrix(130, 33, 9)
    x = matrix_of(kind, 130, 33)
    with np.errstate(all="ignore"):
        want = matrix.wanted(is_left, x)
        sent = matrix.factor(is_left, x)
        assert same_bits(numerics.canonical(sent), numerics.canonical(want))  # which NaN is not specified
        found, wanted = orthonormal(sent), powersgd.orthonormal(sent)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert same_bits(found, wanted)
        assert distance_from_orthonormal(found) < 1e-3


@every_side
def test_what_is_not_finite_is_received_and_not_kept(target, is_left):
    matrix = Matrix(70, 48, 4)
    x = matrix_of("cubes", 70, 48)
    x[3, 4] = np.inf
    mean = matrix.factor(is_left, x)
    assert not np.isfinite(mean).all()
    old = matrix_of("uniform", 70, 48, seed=1)
    out, kept, got = Guarded(x), Guarded(old), Guarded(mean)
    matrix.native.deliver(is_left, out.ptr, FP32, 1.0, kept.ptr, kept.ptr, FP32, got.ptr, got.ptr)
    assert kept.unchanged()
    assert not np.isfinite(out.array.reshape(70, 48)[3, 4])


@every_side
def test_a_sum_past_the_end_of_fp32_is_not_kept(target, is_left):
    """Far beyond what a gradient is: the residual stays finite."""
    matrix = Matrix(70, 48, 4)
    huge = np.full((70, 48), 3e38, np.float32)
    sent = np.full_like(matrix.side(is_left), -3e38)
    kept, out, given = Guarded(huge), Guarded(huge), Guarded(sent)
    matrix.native.deliver(is_left, out.ptr, FP32, 0.0, kept.ptr, kept.ptr, FP32, given.ptr, given.ptr)
    found = kept.array.reshape(70, 48)
    assert np.isfinite(found).all()
    assert (found == 0).any()
    assert same_bits(found, powersgd.kept(huge, *matrix.pair(is_left, sent)))


@every_shape
def test_factors_are_made_orthonormal(target, rows, columns, rank):
    for exponent in (-110, 0, 110):
        factor = matrix_of("uniform", rank, columns, exponent)
        found = orthonormal(factor)
        assert found is not None
        assert same_bits(found, powersgd.orthonormal(factor))
        assert distance_from_orthonormal(found) < 1e-3


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-40, np.nan, np.inf])
def test_a_factor_of_nothing_is_refused(target, value):
    factor = np.zeros((4, 50), np.float32)
    factor[2] = value
    assert orthonormal(factor) is None
    assert powersgd.orthonormal(factor) is None


def test_vectors_that_vanish_are_replaced(target):
    """One that is zero, one that is another's multiple, and all the rest of a matrix of rank one."""
    factor = matrix_of("uniform", 5, 60)
    factor[1] = 0
    factor[3] = factor[0] * 3
    alike = np.repeat(matrix_of("uniform", 1, 60), 5, axis=0)
    for one in (factor, alike):
        found = orthonormal(one)
        assert same_bits(found, powersgd.orthonormal(one))
        assert distance_from_orthonormal(found) < 1e-4


def test_where_chance_has_no_vector_left_there_are_zeros(target):
    """Two vectors on a line: there is no second direction."""
    for value in (1.0, -2.5):
        factor = np.full((2, 1), value, np.float32)
        found = orthonormal(factor)
        assert found.tolist() == [[np.sign(value)], [0]]
        assert same_bits(found, powersgd.orthonormal(factor))


def test_turns_find_the_greatest_part_of_a_matrix(target):
    """Alternating factors of a fixed matrix of low rank come to hold all of it."""
    left, right = matrix_of("uniform", 3, 90, seed=1), matrix_of("uniform", 3, 70, seed=2)
    y = (left.T @ right).astype(np.float32)
    matrix = Matrix(90, 70, 4)
    for step in range(8):
        is_left = powersgd.sends_left(step)
        factor = matrix.factor(is_left, y)
        out = powersgd.received(*matrix.pair(is_left, factor))
        matrix.side(is_left)[:] = orthonormal(factor)
        matrix.left, matrix.right = _again(matrix.left), _again(matrix.right)
        matrix.native = _core.LowRank(90, 70, 4, matrix.left.ptr, matrix.right.ptr)
    assert np.abs(out - y).max() < 1e-4 * np.abs(y).max()


def _again(guarded: Guarded) -> Guarded:
    return Guarded(guarded.array.copy())


@pytest.mark.parametrize(("rows", "columns", "rank"), [(4, 50, 5), (50, 4, 5), (99, 99, 33), (9, 9, 0)])
def test_factors_that_cannot_be(rows, columns, rank):
    with pytest.raises(InvalidArgument, match=f"not {rank} of {rows} x {columns}"):
        _core.LowRank(rows, columns, rank, 0, 0)


def test_the_reference_takes_the_turns_of_the_hook():
    pytest.importorskip("torch")
    from thinwire.ddp import powersgd as hook

    assert [powersgd.sends_left(step) for step in range(1000)] == [hook.sends_left(s) for s in range(1000)]


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 16, 30, 32, 34])
def test_no_stride_sees_one_side_alone(stride):
    for first in range(stride):
        sides = [powersgd.sends_left(step) for step in range(first, first + 200 * stride, stride)]
        assert 40 < sum(sides) < 160
