"""Scales fitted to magnitudes of two levels, for int2 and ternary (`docs/wire/conventions.md`).

J. Max, "Quantizing for minimum distortion", IRE Transactions on Information Theory 6 (1960): levels are the
means of what they stand for, and what they stand for lies nearest to them. Here the ratio of the levels is
fixed, so that one scale makes both.
"""

from __future__ import annotations

import numpy as np

from .blocks import LARGEST_BASE, SMALLEST_BASE, real_values, scales_of
from .numerics import F32, U16, Mask, sum16


def fitted_scales(values: F32, n: int, nonfinite: Mask, *, inner: float, outer_from: float) -> U16:
    """Return the bf16 scales of blocks (blocks, block), of which `n` values are real.

    Args:
        nonfinite: the blocks that held a value that is not finite.
        inner: the inner level as a part of the outer one, which is the scale.
        outer_from: values above this times the mean magnitude are fitted by the outer level.
    """
    magnitude, real = np.abs(values), real_values(values, n)
    total = sum16(magnitude)
    mean = total / real
    fitted = (mean >= SMALLEST_BASE) & (mean < LARGEST_BASE)
    is_outer = magnitude > (np.where(fitted, mean, 1) * np.float32(outer_from))[:, None]
    outer, count = sum16(np.where(is_outer, magnitude, 0)), is_outer.sum(axis=1).astype(np.float32)
    level = np.float32(inner)
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = (total * level + outer * (1 - level)) / (count + (real - count) * (level * level))
    return scales_of(np.where(fitted, fit, mean), 1, nonfinite)
