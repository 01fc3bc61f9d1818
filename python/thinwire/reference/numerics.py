"""Number formats and sums every codec shares: `docs/wire/conventions.md` in NumPy.

Arrays are fp32 unless said otherwise; fp16 and bf16 values are held as `uint16` bit patterns. Functions work
element by element on arrays of any shape, `sum16` along the last axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
Mask = NDArray[np.bool_]

NAN_FP32 = 0x7FC00000
"""Bits of the one fp32 NaN that decoders produce."""
INF_FP32 = 0x7F800000
"""Bits of fp32 infinity: magnitude bits from here on are not finite."""
NAN_FP16 = 0x7E00
"""Bits of the one fp16 NaN that is ever written."""
NAN_BF16 = 0x7FC0
"""Bits of the one bf16 NaN that is ever written; as a scale it marks a non-finite block."""
LANES = 16
"""Lanes of `sum16`."""


def bits(v: F32) -> U32:
    """Return the bit patterns of fp32 values."""
    return np.ascontiguousarray(v, dtype=np.float32).view(np.uint32)


def mag(v: F32) -> U32:
    """Return the magnitude bits: unsigned integers that order like `|v|`, with NaN as largest."""
    magnitude: U32 = bits(v) & np.uint32(0x7FFFFFFF)
    return magnitude


def from_bits(b: NDArray[Any]) -> F32:
    """Return the fp32 values with the given bit patterns."""
    return np.ascontiguousarray(b, dtype=np.uint32).view(np.float32)


def canonical(v: F32) -> F32:
    """Return `v` with every NaN replaced by the canonical one."""
    return from_bits(np.where(np.isnan(v), np.uint32(NAN_FP32), bits(v)))


def to_fp16(v: F32) -> U16:
    """Round fp32 to binary16, nearest even; overflow gives infinity and every NaN `0x7e00`."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.asarray(v, dtype=np.float32).astype(np.float16).view(np.uint16)
    return np.where(np.isnan(v), np.uint16(NAN_FP16), rounded)


def from_fp16(h: U16) -> F32:
    """Widen binary16 bit patterns to fp32, exactly."""
    return canonical(np.ascontiguousarray(h, dtype=np.uint16).view(np.float16).astype(np.float32))


def to_bf16(v: F32) -> U16:
    """Round fp32 to bfloat16, nearest even; overflow gives infinity and every NaN `0x7fc0`."""
    wide = bits(v).astype(np.uint64)
    rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
    return np.where(np.isnan(v), np.uint16(NAN_BF16), rounded.astype(np.uint16))


def from_bf16(h: NDArray[Any]) -> F32:
    """Widen bfloat16 bit patterns to fp32, exactly."""
    return canonical(from_bits(np.asarray(h, dtype=np.uint32) << np.uint32(16)))


def bf16_up(v: F32) -> U16:
    """Round non-negative fp32 values up to bfloat16. Infinity stays; what NaN gives is not specified."""
    return ((bits(v).astype(np.uint64) + 0xFFFF) >> 16).astype(np.uint16)


def sum16(v: F32) -> F32:
    """Sum along the last axis in the written order: sixteen lanes from left to right, then a tree."""
    lanes = np.zeros((*v.shape[:-1], LANES), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, v.shape[-1], LANES):
            piece = v[..., start : start + LANES]
            lanes[..., : piece.shape[-1]] += piece
        for half in (8, 4, 2, 1):
            lanes[..., :half] += lanes[..., half : 2 * half]
    total: F32 = lanes[..., 0]
    return total


def multiply_add(a: F32, b: F32, c: F32) -> F32:
    """Return `a * b + c`, rounded once, of fp32 values.

    In fp64 the product is exact. The sum is rounded to odd there, so that rounding it to fp32 rounds as if it
    were the first time (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product, addend = np.multiply(a, b, dtype=np.float64), np.asarray(c, np.float64)
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)  # Knuth's TwoSum
        found = np.ascontiguousarray(total).view(np.int64)
        away = np.where((error > 0) == (total > 0), 1, -1)
        is_even = (found & 1) == 0
        odd = np.where(np.isfinite(total) & (error != 0) & is_even, found + away, found)
        fused: F32 = odd.view(np.float64).astype(np.float32)
    return fused


def dot(a: F32, b: F32) -> F32:
    """Return the sum of products along the last axis in the order of `sum16`; no product is rounded."""
    columns = a.shape[-1]
    lanes = np.zeros((*a.shape[:-1], LANES), dtype=np.float32)
    for start in range(0, columns, LANES):
        width = min(LANES, columns - start)
        part = slice(start, start + width)
        lanes[..., :width] = multiply_add(a[..., part], b[..., part], lanes[..., :width])
    return sum16(lanes)


def encoder_input(x: F32, scale: float = 1.0, residual: F32 | None = None) -> F32:
    """Return `y = x * scale + residual`, two fp32 operations; without a residual the product alone."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y: F32 = np.asarray(x, dtype=np.float32) * np.float32(scale)
        return y if residual is None else np.add(y, residual, dtype=np.float32)


def rounding_error(y: F32, decoded: F32) -> F32:
    """Return `y - decoded`, the new residual: +0 where the decoded value is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isfinite(decoded), y - decoded, np.float32(0))


def accumulate(out: F32, decoded: F32) -> F32:
    """Return `canonical(out + decoded)`, what a decoder writes when it adds to `out`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return canonical(np.asarray(out, dtype=np.float32) + decoded)
