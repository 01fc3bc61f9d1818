"""ternary: -1, 0 or 1 times the scale of the block, five values a byte (`docs/wire/ternary.md`)."""

from __future__ import annotations

import numpy as np

from ..errors import CorruptFrame
from . import sections
from .blocks import (
    block_count,
    dequantise,
    pack_digits,
    set_aside_nonfinite,
    times_inverse,
    to_blocks,
    unpack_digits,
)
from .fitted import fitted_scales
from .numerics import F32, rounding_error

WIRE_ID = 9
SMALLEST_BLOCK = 80
RADIX = 3
"""How many digits there are: the code, -1 to 1, plus 1."""
GREATEST_BYTE = RADIX**5 - 1
OUTER_FROM = 13 / 16
"""The scale is the mean of the magnitudes above this times the mean magnitude."""


def wire_param(*, block: int = 160) -> int:
    """Return the frame's `param`."""
    return block


def unit(*, block: int = 160) -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 160) -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block, SMALLEST_BLOCK)
    return sections.padded(2 * count) + sections.padded(block // 5 * count)


def encode(y: F32, *, step: int = 0, key: int = 0, block: int = 160) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `step` and `key` are unused."""
    values, nonfinite = set_aside_nonfinite(to_blocks(y, block, SMALLEST_BLOCK))
    scales = fitted_scales(values, y.size, nonfinite, inner=0, outer_from=OUTER_FROM)
    scaled = times_inverse(values, scales)
    codes = np.where(np.abs(scaled) > np.float32(0.5), np.sign(scaled), 0).astype(np.int8)
    packed = pack_digits((codes + 1).astype(np.uint8), RADIX)
    payload = sections.join(scales.astype("<u2"), packed)
    return payload, rounding_error(y, dequantise(scales, codes, y.size))


def decode(payload: bytes, n: int, *, block: int = 160) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a wrong length or a byte of no codes."""
    count = block_count(n, block, SMALLEST_BLOCK)
    scales, packed = sections.split(payload, 2 * count, block // 5 * count)
    most = int(packed.max(initial=0))
    if most > GREATEST_BYTE:
        raise CorruptFrame(f"ternary has a byte {most}, {GREATEST_BYTE} is the most")
    digits = unpack_digits(packed.reshape(count, block // 5), RADIX)
    return dequantise(scales.view("<u2"), digits.astype(np.int8) - np.int8(1), n)
