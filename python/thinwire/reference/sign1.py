"""sign1: one bit a value and the mean magnitude of its block (`docs/wire/sign1.md`)."""

from __future__ import annotations

import numpy as np

from . import sections
from .blocks import block_count, is_live, mean_magnitude, scales_of, set_aside_nonfinite, to_blocks
from .numerics import F32, U16, Mask, canonical, from_bf16, rounding_error

WIRE_ID = 7


def wire_param(*, block: int = 128) -> int:
    """Return the frame's `param`."""
    return block


def unit(*, block: int = 128) -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 128) -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block)
    return sections.padded(2 * count) + sections.padded(block // 8 * count)


def signed(scales: U16, negative: Mask, n: int) -> F32:
    """Return the first `n` of the scales with the given signs (blocks, block)."""
    magnitude = from_bf16(scales)[:, None]
    return canonical(np.where(negative, -magnitude, magnitude)).reshape(-1)[:n]


def encode(y: F32, *, step: int = 0, key: int = 0, block: int = 128, gain: float = 1.0) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `step` and `key` are unused.

    `gain` multiplies the mean magnitudes that become scales; see `thinwire.reference.basis`.
    """
    values, nonfinite = set_aside_nonfinite(to_blocks(y, block))
    scales = scales_of(mean_magnitude(values, y.size) * np.float32(gain), 1, nonfinite)
    negative = np.signbit(values) & is_live(scales)[:, None]
    payload = sections.join(scales.astype("<u2"), np.packbits(negative, axis=1, bitorder="little"))
    return payload, rounding_error(y, signed(scales, negative, y.size))


def decode(payload: bytes, n: int, *, block: int = 128) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    count = block_count(n, block)
    scales, packed = sections.split(payload, 2 * count, block // 8 * count)
    negative = np.unpackbits(packed.reshape(count, block // 8), axis=1, bitorder="little").astype(np.bool_)
    return signed(scales.view("<u2"), negative, n)
