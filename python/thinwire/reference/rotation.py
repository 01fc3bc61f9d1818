"""The rotation of a block before it is coded, and back (`docs/wire/conventions.md`, "Rotation")."""

from __future__ import annotations

import numpy as np

from .numerics import F32, Mask
from .rounding import mix


def flips(block: int) -> F32:
    """Return the factors, 1 or -1, of the values of a block (block,)."""
    hashed = mix(np.arange(block, dtype=np.uint32))
    factors: F32 = np.where(hashed >> np.uint32(31), np.float32(-1), np.float32(1))
    return factors


def hadamard(values: F32) -> F32:
    """Return the Walsh-Hadamard transform, without a factor, of each row (blocks, block)."""
    shape, block = values.shape, values.shape[1]
    for k in range(block.bit_length() - 1):
        pairs = values.reshape(shape[0], block >> (k + 1), 2, 1 << k)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        values = np.stack([first + second, first - second], axis=2).reshape(shape)
    return values


def rotated(values: F32) -> F32:
    """Return blocks (blocks, block) as they are coded. Where a sum overflows, a value is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return hadamard(values * flips(values.shape[1]))


def rotate_back(decoded: F32, live: Mask) -> F32:
    """Return decoded blocks (blocks, block) as they were before. Those without codes stay as they are."""
    block = decoded.shape[1]
    back = hadamard(decoded * np.float32(1 / block)) * flips(block)
    return np.where(live[:, None], back, decoded)
