"""The bins of every histogram of data: sign, exponent and four mantissa bits (docs/data/quality.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 4
_SHIFT = 23 - MANTISSA_BITS
BINS = 2 ** (32 - _SHIFT)
"""A bin's number is the leading bits of its values as fp32, rounded towards zero."""
RELATIVE_ERROR = 2.0 ** -(MANTISSA_BITS + 1)
"""The middle of a bin is as near to each of its values; nearer to zero than 2^-130, it is 0 for them."""

Counts = NDArray[np.uint64]


def _edges() -> NDArray[np.float64]:
    """The lower edges of the bins of one sign by magnitude, and the upper one of the last."""
    edges = np.full(BINS // 2 + 1, 2.0**128)  # where the bins of finite values end
    bits = np.arange(255 << MANTISSA_BITS, dtype=np.uint32) << np.uint32(_SHIFT)
    edges[: len(bits)] = bits.view(np.float32)
    return edges


def _middles() -> NDArray[np.float64]:
    edges = _edges()
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0] = 0
    return middles


RISING = np.concatenate([np.arange(BINS - 1, BINS // 2 - 1, -1), np.arange(BINS // 2)])
"""The numbers of the bins in the order of their values, int64 of shape (BINS,)."""
MIDDLES = np.concatenate([-_middles()[::-1], _middles()])
"""The middle of each bin in that order, float64 of shape (BINS,)."""
