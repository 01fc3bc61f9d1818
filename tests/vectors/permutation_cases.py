"""The test vectors of the order of samples: sizes, keys, and where indices go."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinwire.reference.permutation import permuted

ABOUT = (
    "The order of shuffled samples, docs/data/samplers.md, written by tests/vectors/make.py: where a "
    "permutation of size indices takes start, start + 1, ..."
)
KEYS = (0, 1, 0x0123456789ABCDEF, 2**64 - 1)
SIZES = (1, 2, 3, 4, 5, 6, 7, 12, 13, 64, 1000, 2**20, 2**31 + 1, 10**10, 2**62 - 1, 2**62)
MOST = 12  # indices of a case


def cases() -> list[dict[str, Any]]:
    """Return every case: the first, middle and last indices of each size and key."""
    found = []
    for size in SIZES:
        for key in KEYS:
            for start in sorted({0, size // 2, max(0, size - MOST)}):
                indices = np.arange(start, min(size, start + MOST))
                found.append(
                    {"size": size, "key": key, "start": start, "taken": permuted(indices, size, key).tolist()}
                )
    return found


def vectors() -> dict[str, Any]:
    """Return the content of permutation.json."""
    return {"about": ABOUT, "cases": cases()}
