"""The order of an epoch's samples: a permutation that takes no memory (docs/data/samplers.md)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from thinwire import _core

LARGEST = 2**62
"""The most samples that can be put in order."""


class Order:
    """An order of 0 .. size - 1: by chance, as the numbers of a key say, or as they lie (without a key).

    Orders of different keys have nothing in common. Raises InvalidArgument for a size that is not in
    1 .. LARGEST.
    """

    def __init__(self, size: int, key: tuple[int, ...] | None) -> None:
        self._permutation = None if key is None else _core.Permutation(size, _hashed(key))

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Return what stands at the places from `start` on: int64 of shape (count,)."""
        if self._permutation is None:
            return np.arange(start, start + count, dtype=np.int64)
        taken = np.empty(count, np.int64)
        self._permutation.take(start, count, taken.ctypes.data)
        return taken


def _hashed(key: tuple[int, ...]) -> int:
    text = " ".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
