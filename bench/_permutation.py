"""The row of `thinwire bench data` on the order of samples: time for the next index."""

from __future__ import annotations

import time

import numpy as np

from thinwire import _core

SIZE, BATCH_SIZE = 10**10, 64
ROUNDS = 5


def index_ns(batches: int = 20_000) -> list[float]:
    """Nanoseconds an index, in ROUNDS rounds: batches of 64 of ten billion samples, with the call of each."""
    permutation, out = _core.Permutation(SIZE, 1), np.empty(BATCH_SIZE, np.int64)
    address = out.ctypes.data
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for start in range(0, batches * BATCH_SIZE, BATCH_SIZE):
            permutation.take(start, BATCH_SIZE, address)
        found.append((time.perf_counter() - begin) / (batches * BATCH_SIZE) * 1e9)
    return found
