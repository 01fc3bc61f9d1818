"""bf16: bfloat16, rounded to nearest even (`docs/wire/bf16.md`)."""

from __future__ import annotations

from . import sections
from .numerics import F32, from_bf16, rounding_error, to_bf16

WIRE_ID = 2


def wire_param() -> int:
    """Return the frame's `param`."""
    return 0


def unit() -> int:
    """Return how many values turn non-finite together."""
    return 1


def payload_bytes(n: int) -> int:
    """Return the payload's bytes for `n` values."""
    return sections.padded(2 * n)


def encode(y: F32, *, step: int = 0, key: int = 0) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `step` and `key` are unused."""
    codes = to_bf16(y)
    return sections.join(codes.astype("<u2")), rounding_error(y, from_bf16(codes))


def decode(payload: bytes, n: int) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    (codes,) = sections.split(payload, 2 * n)
    return from_bf16(codes.view("<u2"))
