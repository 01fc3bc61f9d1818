"""Rounding to integer codes, nearest or stochastic, with counter-based random numbers."""

from __future__ import annotations

import struct

import numpy as np

from ..errors import InvalidArgument
from .hashing import xxh3_64
from .numerics import F32, U32

MASK32 = 0xFFFFFFFF


def stochastic_key(seed: int, step: int) -> int:
    """Return the 64-bit key for one encoding: XXH3-64 of seed and step, 8 little-endian bytes each."""
    return xxh3_64(struct.pack("<QQ", seed, step))


def mix(x: U32) -> U32:
    """Scramble 32-bit integers (Wellons' lowbias32, a bijection)."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    x = x ^ (x >> np.uint32(16))
    return x


def uniform(n: int, key: int) -> F32:
    """Return the numbers u in [0, 1), multiples of 2^-24, that belong to the elements 0..n-1 under `key`."""
    index = np.arange(n, dtype=np.uint32)
    h = mix(mix(index + np.uint32(key & MASK32)) ^ np.uint32(key >> 32))
    u: F32 = (h >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return u


def round_codes(v: F32, greatest: int | F32, rounding: str, key: int) -> F32:
    """Round `v` to integers, held in fp32. Element i of the flattened array uses random number i.

    `nearest` rounds half to even. `stochastic` takes `floor(v + u)`, kept within `greatest` in magnitude.
    """
    if rounding == "nearest":
        codes: F32 = np.rint(v)
    elif rounding == "stochastic":
        codes = np.clip(np.floor(v + uniform(v.size, key).reshape(v.shape)), -greatest, greatest)
    else:
        raise InvalidArgument(f"rounding must be 'nearest' or 'stochastic', not {rounding!r}")
    return codes
