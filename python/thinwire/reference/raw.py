"""raw: fp32 as it is (`docs/wire/raw.md`)."""

from __future__ import annotations

import numpy as np

from . import sections
from .numerics import F32, canonical, rounding_error

WIRE_ID = 0


def wire_param() -> int:
    """Return the frame's `param`."""
    return 0


def unit() -> int:
    """Return how many values turn non-finite together."""
    return 1


def payload_bytes(n: int) -> int:
    """Return the payload's bytes for `n` values."""
    return sections.padded(4 * n)


def encode(y: F32, *, step: int = 0, key: int = 0) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `step` and `key` are unused."""
    stored = canonical(y)
    return sections.join(stored.astype("<f4")), rounding_error(y, stored)


def decode(payload: bytes, n: int) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    (stored,) = sections.split(payload, 4 * n)
    return canonical(stored.view("<f4").astype(np.float32))
