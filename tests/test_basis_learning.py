"""How a shared basis begins, learns and turns: the reference's bits on every CPU target; what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from support import DTYPES, FP32, Array, Guarded, same_bits, store, widen
from thinwire import _core
from thinwire.reference import basis, numerics
from vectors.formula import values

SHAPES = [(1, 64, 1), (64, 96, 8), (65, 50, 4), (130, 33, 9), (40, 300, 32), (300, 16, 13)]
"""Rows, columns and rank."""

every_shape = pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)


def call(vectors: numerics.F32) -> _core.Basis:
    rank, columns = vectors.shape
    return _core.Basis(columns, rank, vectors.ctypes.data)


def begin(columns: int, rank: int, key: int) -> numerics.F32:
    out = Guarded(np.full((rank, columns), 9, np.float32))
    _core.Basis(columns, rank, out.ptr).begin(key, out.ptr)
    assert out.intact()
    return out.array.reshape(rank, columns).copy()


def learn(vectors: numerics.F32, matrix: Array, moments: numerics.F32, dtype: int = FP32) -> numerics.F32:
    source, out = Guarded(matrix), Guarded(moments)
    call(vectors).learn(source.ptr, dtype, matrix.shape[0], out.ptr)
    assert source.unchanged()
    assert out.intact()
    return out.array.reshape(moments.shape).copy()


def turn(vectors: numerics.F32, moments: numerics.F32) -> numerics.F32:
    before, source, out = Guarded(vectors), Guarded(moments), Guarded(np.full_like(vectors, 9))
    _core.Basis(*vectors.shape[::-1], before.ptr).turn(source.ptr, out.ptr)
    assert before.unchanged()
    assert source.unchanged()
    assert out.intact()
    return out.array.reshape(vectors.shape).copy()


def matrix_of(kind: str, rows: int, columns: int, exponent: int = 0, seed: int = 0) -> numerics.F32:
    return values(kind, rows * columns, exponent, seed).reshape(rows, columns)


def next_step(vectors: numerics.F32, matrix: numerics.F32) -> numerics.F32:
    return turn(vectors, learn(vectors, matrix, np.zeros_like(vectors)))


def distance_from_orthonormal(vectors: numerics.F32) -> float:
    wide = vectors.astype(np.float64)
    return float(np.abs(wide @ wide.T - np.eye(len(vectors))).max())


@every_shape
def test_a_basis_begins_with_the_reference_bits(target, rows, columns, rank):
    for key in (0, 1, 2**64 - 1):
        found = begin(columns, rank, key)
        assert same_bits(found, basis.begin(columns, rank, key))
        assert distance_from_orthonormal(found) < 1e-4


def test_a_basis_always_begins_orthonormal(target):
    """Also where random vectors happen to depend on each other."""
    for columns, rank in [(1, 1), (2, 2), (4, 4)]:
        for key in range(1000, 1200):
            found = begin(columns, rank, key)
            assert distance_from_orthonormal(found) < 1e-3, (columns, rank, key)
            assert same_bits(found, basis.begin(columns, rank, key)), (columns, rank, key)
    assert begin(2, 2, 1052).tolist() == [[1, 0], [0, 1]]  # one of those


@every_shape
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
def test_learning_gives_the_bits_of_the_reference(target, rows, columns, rank, dtype):
    vectors = basis.begin(columns, rank, key=3)
    matrix = store(matrix_of("cubes", rows, columns), dtype)
    before = matrix_of("uniform", rank, columns, seed=4)
    want = basis.learn(vectors, widen(matrix, dtype), before)
    assert same_bits(learn(vectors, matrix, before, dtype), want)
    assert same_bits(turn(vectors, want), basis.turn(vectors, want))


@pytest.mark.parametrize(
    "kind", ["zeros", "negative_zeros", "denormal", "huge", "nonfinite", "sparse", "finite", "anything"]
)
def test_special_values_give_the_bits_of_the_reference(target, kind):
    vectors, matrix = basis.begin(33, 9, key=3), matrix_of(kind, 130, 33)
    with np.errstate(all="ignore"):
        want = basis.learn(vectors, matrix, np.zeros_like(vectors))
    found = learn(vectors, matrix, np.zeros_like(vectors))
    assert same_bits(numerics.canonical(found), numerics.canonical(want))  # which NaN is not specified
    turned = turn(vectors, found)
    assert same_bits(turned, basis.turn(vectors, found))
    assert distance_from_orthonormal(turned) < 1e-4


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_nothing_learnt_leaves_every_bit(target, zero):
    vectors = begin(50, 4, key=5)
    vectors[0, 0] += np.float32(1e-6)  # a basis that would change if it were made orthonormal once more
    assert same_bits(next_step(vectors, np.full((70, 50), zero, np.float32)), vectors)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_leaves_every_bit(target, bad):
    vectors, moments = begin(50, 4, key=5), matrix_of("uniform", 4, 50)
    moments[2, 49] = bad
    assert same_bits(turn(vectors, moments), vectors)
    matrix = matrix_of("uniform", 70, 50)
    matrix[69, 3] = bad
    assert same_bits(next_step(vectors, matrix), vectors)


def test_a_vector_that_learnt_nothing_is_only_made_orthonormal_again(target):
    vectors, moments = begin(64, 2, key=5), np.zeros((2, 64), np.float32)
    moments[1] = values("uniform", 64)
    turned = turn(vectors, moments)
    np.testing.assert_allclose(turned[0], vectors[0], atol=1e-6)
    assert np.abs(turned[1] - vectors[1]).max() > 0.01


@pytest.mark.parametrize(
    ("magnitude", "learns"),
    [(1e-45, 0), (1e-38, 0), (1e-30, 0), (1e-19, 1), (1e-10, 1), (1e10, 1), (1e18, 1), (1e30, 0), (3e38, 0)],
)
def test_any_magnitude_gives_orthonormal_vectors(target, magnitude, learns):
    """Where squares of gradients are no fp32, nothing is learnt."""
    vectors = begin(48, 4, key=6)
    found = next_step(vectors, matrix_of("uniform", 70, 48) * np.float32(magnitude))
    assert distance_from_orthonormal(found) < 1e-4
    assert same_bits(found, vectors) != bool(learns)
    moments = np.full((4, 48), magnitude, np.float32) * np.sign(matrix_of("uniform", 4, 48, seed=2))
    assert distance_from_orthonormal(turn(vectors, moments)) < 1e-4


def test_the_scale_of_a_gradient_does_not_matter(target):
    """A power of two changes no bit of the vectors: a loss scale is one."""
    vectors, matrix = begin(48, 4, key=6), matrix_of("cubes", 70, 48)
    for scale in (2.0**-20, 2.0**16):
        assert same_bits(next_step(vectors, matrix * np.float32(scale)), next_step(vectors, matrix))


def test_a_basis_stays_orthonormal(target):
    vectors = begin(300, 32, key=7)
    for step in range(50):
        vectors = next_step(vectors, matrix_of("cubes", 40, 300, seed=step))
        assert distance_from_orthonormal(vectors) < 1e-4


def explained(vectors: numerics.F32, matrix: numerics.F32) -> float:
    """Return which part of a matrix's energy lies along the vectors."""
    return float(np.square(matrix @ vectors.T).sum() / np.square(matrix).sum())


def test_a_basis_finds_a_matrix_of_low_rank(target):
    left, right = matrix_of("uniform", 200, 4, seed=1), matrix_of("uniform", 4, 128, seed=2)
    low, vectors = (left @ right).astype(np.float32), begin(128, 4, key=8)
    assert explained(vectors, low) < 0.2
    for _ in range(30):
        vectors = next_step(vectors, low)
    assert explained(vectors, low) > 0.99


def test_a_basis_follows_a_matrix_that_changes(target):
    """What is learnt now replaces what was learnt before."""
    vectors = begin(128, 2, key=8)
    for seed in (1, 3):
        low = matrix_of("uniform", 200, 2, seed=seed) @ matrix_of("uniform", 2, 128, seed=seed + 1)
        for _ in range(30):
            vectors = next_step(vectors, low.astype(np.float32))
        assert explained(vectors, low) > 0.99


def spread(
    vectors: numerics.F32, matrix: Array, kept: numerics.U16, share: float, dtype: int = FP32
) -> tuple[Array, numerics.U16]:
    out, before, later = Guarded(matrix), Guarded(kept), Guarded(np.full_like(kept, 9))
    call(vectors).spread(out.ptr, dtype, matrix.shape[0], share, before.ptr, later.ptr)
    assert before.unchanged()
    assert out.intact()
    assert later.intact()
    return out.array.reshape(matrix.shape).copy(), later.array.reshape(kept.shape).copy()


@every_shape
@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
def test_spreading_gives_the_bits_of_the_reference(target, rows, columns, rank, dtype):
    vectors = basis.begin(columns, rank, key=3)
    matrix = store(matrix_of("cubes", rows, columns), dtype)
    kept = numerics.to_bf16(matrix_of("uniform", rows, columns, seed=4))
    want, later = basis.spread(vectors, widen(matrix, dtype), 0.25, kept)
    found, left = spread(vectors, matrix, kept, 0.25, dtype)
    assert same_bits(left, later)
    assert same_bits(found, store(want, dtype))


@pytest.mark.parametrize("kind", ["zeros", "negative_zeros", "denormal", "nonfinite", "sparse", "finite"])
def test_spreading_special_values_gives_the_bits_of_the_reference(target, kind):
    vectors, matrix = basis.begin(33, 9, key=3), matrix_of(kind, 130, 33)
    kept = numerics.to_bf16(matrix_of("uniform", 130, 33, seed=4))
    with np.errstate(all="ignore"):
        want, later = basis.spread(vectors, matrix, 0.5, kept)
    found, left = spread(vectors, matrix, kept, 0.5)
    assert same_bits(left, later)
    assert same_bits(found, want)
    assert np.isfinite(numerics.from_bf16(left)).all()


def test_everything_is_handed_over_at_last(target):
    """What came in is what went out and what is kept; the part along the basis comes at once."""
    vectors = basis.begin(48, 4, key=3)
    kept = np.zeros((70, 48), np.uint16)
    came, went = np.zeros((70, 48)), np.zeros((70, 48))
    for step in range(5):
        matrix = matrix_of("uniform", 70, 48, seed=step)
        out, kept = spread(vectors, matrix, kept, 0.25)
        along = matrix @ vectors.T
        assert np.abs(out @ vectors.T - along).max() < 0.02 * np.abs(along).max()
        came += matrix
        went += out
        assert np.abs(came - went - numerics.from_bf16(kept)).max() < 1e-5
    faint = np.full((70, 48), 1e-30, np.float32)
    for _ in range(40):
        out, kept = spread(vectors, faint, kept, 0.25)
        went += out
    assert np.abs(came - went).max() < 1e-4


@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
def test_a_matrix_of_zeros_hands_nothing_over(target, dtype):
    """Who averages it leaves the parameter alone, so what it got would be lost."""
    vectors = basis.begin(33, 9, key=3)
    kept = numerics.to_bf16(matrix_of("uniform", 130, 33, seed=4))
    for zero in (0.0, -0.0):
        matrix = store(np.full((130, 33), zero, np.float32), dtype)
        found, left = spread(vectors, matrix, kept, 0.25, dtype)
        assert same_bits(found, matrix)
        assert same_bits(left, kept)
