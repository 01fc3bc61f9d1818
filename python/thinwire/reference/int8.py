"""int8: absmax blocks of signed bytes (`docs/wire/int8.md`)."""

from __future__ import annotations

import numpy as np

from . import sections
from .blocks import block_count, dequantise, quantise
from .numerics import F32, rounding_error

WIRE_ID = 4
GREATEST = 127
"""The greatest code."""


def wire_param(*, block: int = 256, rounding: str = "nearest") -> int:
    """Return the frame's `param`."""
    return block


def unit(*, block: int = 256, rounding: str = "nearest") -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 256, rounding: str = "nearest") -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block)
    return sections.padded(2 * count) + sections.padded(block * count)


def encode(
    y: F32, *, step: int = 0, key: int = 0, block: int = 256, rounding: str = "nearest"
) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `key` is for stochastic rounding, `step` unused."""
    scales, codes = quantise(y, block, GREATEST, rounding, key)
    payload = sections.join(scales.astype("<u2"), codes)
    return payload, rounding_error(y, dequantise(scales, codes, y.size))


def decode(payload: bytes, n: int, *, block: int = 256, rounding: str = "nearest") -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    count = block_count(n, block)
    scales, codes = sections.split(payload, 2 * count, block * count)
    return dequantise(scales.view("<u2"), codes.view(np.int8).reshape(count, block), n)
