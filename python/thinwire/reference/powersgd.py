"""PowerSGD, one factor a step: `docs/powersgd.md` in NumPy.

A matrix of gradients `(rows, columns)` is sent as one of two factors, worked out with the other one, which
all ranks hold alike: the left `(rank, rows)` or the right `(rank, columns)`. Every rank makes the mean that
arrives orthonormal for itself.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

from .basis import GROUP_ROWS, beside, expand, project, to_about_one
from .numerics import F32, INF_FP32, dot, mag, multiply_add
from .rounding import uniform

PHASE_STEPS = 16
"""Steps in which the sides take turns strictly."""


def sends_left(step: int) -> bool:
    """Say whether a step sends left factors. The turn changes by the Thue-Morse sequence."""
    return (step + (step // PHASE_STEPS).bit_count()) % 2 == 0


def left_factor(right: F32, y: F32) -> F32:
    """Return the left factor `(rank, rows)` of `y`, for an orthonormal right one."""
    return project(right, y)


def right_factor(left: F32, y: F32) -> F32:
    """Return the right factor `(rank, columns)` of `y`, for an orthonormal left one.

    It is added up row after row of each group of rows, then group after group.
    """
    starts = range(0, len(y), GROUP_ROWS)
    groups = (_sum_of_rows(left[:, at : at + GROUP_ROWS], y[at : at + GROUP_ROWS]) for at in starts)
    return functools.reduce(operator.add, groups)


def _sum_of_rows(left: F32, y: F32) -> F32:
    sums = np.zeros((len(left), y.shape[1]), dtype=np.float32)
    for i, row in enumerate(y):
        sums = multiply_add(left[:, i, None], row, sums)
    return sums


def received(left: F32, right: F32) -> F32:
    """Return the matrix that a mean factor and the other factor stand for."""
    return expand(np.zeros((left.shape[1], right.shape[1]), dtype=np.float32), right, left)


def kept(y: F32, left: F32, right: F32) -> F32:
    """Return the residual: `y` without what was sent. What is not finite is not kept."""
    rest = expand(y, right, -left)
    return np.where(np.isfinite(rest), rest, np.float32(0))


def orthonormal(factor: F32) -> F32 | None:
    """Return the vectors of a factor, made orthonormal one after another (modified Gram-Schmidt).

    A random vector takes the place of one that vanishes beside those before it, zeros that of one where this
    vanishes too. None for a factor that is all zero or not all finite.
    """
    magnitudes = mag(factor).max(axis=1)
    if (magnitudes >= INF_FP32).any() or not (magnitudes >> 23).any():
        return None
    done = np.zeros_like(factor)
    random = uniform(factor.size, 0).reshape(factor.shape) - np.float32(0.5)
    for k, v in enumerate(factor):
        there = [_unit(v, int(magnitudes[k]))] if magnitudes[k] >> 23 else []
        found = (beside(done[:k], candidate) for candidate in (*there, random[k]))
        done[k] = next((w for w in found if w is not None), np.zeros_like(v))
    return done


def _unit(v: F32, magnitude: int) -> F32:
    scaled = v * to_about_one(magnitude)
    unit: F32 = scaled * (np.float32(1) / np.sqrt(dot(scaled, scaled)))
    return unit
