"""int2: a sign and one of two magnitudes, four values a byte (`docs/wire/int2.md`)."""

from __future__ import annotations

import numpy as np

from . import sections
from .blocks import (
    block_count,
    block_param,
    coded_blocks,
    delivered,
    pack_digits,
    times_inverse,
    unpack_digits,
)
from .fitted import fitted_scales
from .numerics import F32, U8, U16, from_bf16, rounding_error

WIRE_ID = 6
SMALLEST_BLOCK = 64
RADIX = 4
"""How many codes there are: bit 0 is the outer level, bit 1 the sign."""
INNER = 9 / 32
"""The inner level as a part of the outer one, which is the scale. 0.29987 is best for a normal distribution
(Max 1960); a slightly smaller one costs nothing there and suits heavier tails."""
OUTER_FROM = 5 / 4
"""Values above this times the mean magnitude are fitted by the outer level."""


def wire_param(*, block: int = 128, rotate: bool = False) -> int:
    """Return the frame's `param`."""
    return block_param(block, rotate=rotate)


def unit(*, block: int = 128, rotate: bool = False) -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 128, rotate: bool = False) -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block, SMALLEST_BLOCK)
    return sections.padded(2 * count) + sections.padded(block // 4 * count)


def codes_of(scaled: F32) -> U8:
    """Return the codes of values that were divided by their scale."""
    outer = np.abs(scaled) > np.float32((1 + INNER) / 2)
    codes: U8 = outer.astype(np.uint8) | np.signbit(scaled).astype(np.uint8) << np.uint8(1)
    return codes


def dequantise(scales: U16, codes: U8, n: int, *, rotate: bool = False) -> F32:
    """Return the first `n` values of codes (blocks, block)."""
    outer = from_bf16(scales)[:, None]
    magnitude = np.where(codes & 1, outer, outer * np.float32(INNER))
    return delivered(np.where(codes & 2, -magnitude, magnitude), scales, n, rotate=rotate)


def encode(
    y: F32, *, step: int = 0, key: int = 0, block: int = 128, rotate: bool = False
) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `step` and `key` are unused."""
    values, nonfinite = coded_blocks(y, block, SMALLEST_BLOCK, rotate=rotate)
    real = values.size if rotate else y.size
    scales = fitted_scales(values, real, nonfinite, inner=INNER, outer_from=OUTER_FROM)
    codes = codes_of(times_inverse(values, scales))
    payload = sections.join(scales.astype("<u2"), pack_digits(codes, RADIX))
    return payload, rounding_error(y, dequantise(scales, codes, y.size, rotate=rotate))


def decode(payload: bytes, n: int, *, block: int = 128, rotate: bool = False) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    count = block_count(n, block, SMALLEST_BLOCK)
    scales, packed = sections.split(payload, 2 * count, block // 4 * count)
    codes = unpack_digits(packed.reshape(count, block // 4), RADIX)
    return dequantise(scales.view("<u2"), codes, n, rotate=rotate)
