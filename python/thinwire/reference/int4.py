"""int4: absmax blocks of four-bit codes, two halves of a block to a row of bytes (`docs/wire/int4.md`)."""

from __future__ import annotations

import numpy as np

from . import sections
from .blocks import block_count, block_param, dequantise, pack_digits, quantise, unpack_digits
from .numerics import F32, rounding_error

WIRE_ID = 5
GREATEST = 7
"""The greatest code."""
ZERO = 8
"""The digit that stands for code 0."""
RADIX = 16
"""How many digits there are."""


def wire_param(*, block: int = 64, rounding: str = "nearest", rotate: bool = False) -> int:
    """Return the frame's `param`."""
    return block_param(block, rotate=rotate)


def unit(*, block: int = 64, rounding: str = "nearest", rotate: bool = False) -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 64, rounding: str = "nearest", rotate: bool = False) -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block)
    return sections.padded(2 * count) + sections.padded(block // 2 * count)


def encode(
    y: F32, *, step: int = 0, key: int = 0, block: int = 64, rounding: str = "nearest", rotate: bool = False
) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `key` is for stochastic rounding, `step` unused."""
    scales, codes = quantise(y, block, GREATEST, rounding, key, rotate=rotate)
    packed = pack_digits((codes + ZERO).astype(np.uint8), RADIX)
    payload = sections.join(scales.astype("<u2"), packed)
    return payload, rounding_error(y, dequantise(scales, codes, y.size, rotate=rotate))


def decode(
    payload: bytes, n: int, *, block: int = 64, rounding: str = "nearest", rotate: bool = False
) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    count = block_count(n, block)
    scales, packed = sections.split(payload, 2 * count, block // 2 * count)
    digits = unpack_digits(packed.reshape(count, block // 2), RADIX)
    return dequantise(scales.view("<u2"), digits.astype(np.int8) - np.int8(ZERO), n, rotate=rotate)
