"""The order of shuffled samples (`docs/data/samplers.md`).

The generalised Feistel cipher of Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002), with the
finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014) as its
hash, and cycle walking.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

FEW = 1000
ROUNDS, ROUNDS_OF_FEW = 10, 24
"""From FEW indices on, and below: until all orders of a few are equally likely."""
GAMMA = 0x9E3779B97F4A7C15


def mix(h: U64) -> U64:
    """Return the finaliser of SplitMix64 of every value."""
    h = (h ^ h >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ h >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return h


def scaled(h: U64, radix: np.uint64) -> U64:
    """Return floor(h * radix / 2^64), for a radix below 2^32."""
    half = np.uint64(32)
    found: U64 = ((h >> half) * radix + ((h & np.uint64(2**32 - 1)) * radix >> half)) >> half
    return found


def round_keys(key: int, rounds: int) -> U64:
    """Return the keys of the rounds, uint64 (rounds,): the stream of SplitMix64 seeded with `key`."""
    return mix(np.array([(key + n * GAMMA) % 2**64 for n in range(1, rounds + 1)], np.uint64))


def encipher(index: U64, low_radix: int, high_radix: int, keys: U64) -> U64:
    """Return where the rounds take each of 0 .. low_radix * high_radix - 1."""
    low_radix_, high_radix_ = np.uint64(low_radix), np.uint64(high_radix)
    high, low = np.divmod(index, low_radix_)
    for key_of_low, key_of_high in keys.reshape(-1, 2):
        low = (low + scaled(mix(high ^ key_of_low), low_radix_)) % low_radix_
        high = (high + scaled(mix(low ^ key_of_high), high_radix_)) % high_radix_
    found: U64 = high * low_radix_ + low
    return found


def permuted(indices: NDArray[np.integer], size: int, key: int) -> NDArray[np.int64]:
    """Return where each of `indices`, all in 0 .. size - 1, goes: int64 of their shape."""
    root = math.isqrt(size - 1) + 1
    low_radix = root + root % 2  # even: two odd radices would give even permutations alone
    high_radix = -(-size // low_radix)
    keys = round_keys(key, ROUNDS_OF_FEW if size < FEW else ROUNDS)
    found = encipher(np.asarray(indices).astype(np.uint64), low_radix, high_radix, keys)
    while (beyond := found >= np.uint64(size)).any():
        found[beyond] = encipher(found[beyond], low_radix, high_radix, keys)
    return found.astype(np.int64)
