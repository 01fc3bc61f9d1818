"""Dividing samples into batches of equal cost: the longest processing time first."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Bins(NamedTuple):
    """What shall take samples, one value a bin: its part of the cost, and how many samples it takes."""

    targets: Floats
    least: Ints
    most: Ints


def longest_first(costs: Floats, bins: Bins) -> Ints:
    """Return the bin of each sample, int64 (samples,): the costliest first, to the bin that is least full.

    R. L. Graham, "Bounds on Multiprocessing Timing Anomalies" (1969). How full a bin is, is its cost over its
    target. Of equal ones the larger is taken, then the first: the costliest samples go where they fill least.
    O(n log n). The samples must be at least sum(least) and at most sum(most).
    """
    order = np.argsort(-costs, kind="stable")
    targets, room, owed = bins.targets.tolist(), bins.most.tolist(), bins.least.tolist()
    left, due = len(costs), sum(owed)
    heap = [(0.0, -targets[number], number) for number, places in enumerate(room) if places > 0]
    heapq.heapify(heap)
    chosen = []
    for cost in costs[order].tolist():
        full, _, number = heapq.heappop(heap)
        while left == due and not owed[number]:  # what is left, is owed to others
            full, _, number = heapq.heappop(heap)
        chosen.append(number)
        left -= 1
        room[number] -= 1
        if owed[number]:
            owed[number] -= 1
            due -= 1
        if room[number]:
            heapq.heappush(heap, (full + cost / targets[number], -targets[number], number))
    found = np.empty(len(costs), np.int64)
    found[order] = chosen
    return found


__all__ = ["Bins", "longest_first"]
