"""What a sample of a given length costs, and how to find that out from measured times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinwire.data.batches import checked_shares
from thinwire.errors import InvalidArgument

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """The cost of a sample of length L: linear * L + quadratic * L^2. A step costs `fixed` besides.

    For a transformer of width d the quadratic part (attention) is about linear / (6 d). For balance,
    only their ratio matters; `fit_cost` measures both, in seconds. Raises InvalidArgument for negative ones.
    """

    linear: float = 1.0
    quadratic: float = 0.0
    fixed: float = 0.0

    def __post_init__(self) -> None:
        parts = (self.linear, self.quadratic, self.fixed)
        if not all(np.isfinite(part) and part >= 0 for part in parts) or self.linear + self.quadratic == 0:
            raise InvalidArgument(
                f"{self}: no part of a cost is negative, and linear or quadratic is not zero"
            )

    def __call__(self, lengths: ArrayLike) -> Floats:
        """The cost of each sample: float64 of the shape of `lengths`."""
        n: Floats = np.asarray(lengths, np.float64)
        return n * (self.linear + self.quadratic * n)


def fit_cost(lengths: Sequence[ArrayLike], seconds: Sequence[float]) -> Cost:
    """Return the cost that explains measured batches best: least squares, no part below zero.

    `lengths`: for each batch the lengths of its samples. `seconds`: how long each batch took. Measure twenty
    or more, of different lengths; fit on one rank and hand the result to all, since their samplers must
    agree.

    Raises InvalidArgument for fewer than three batches, and where the times do not grow with the lengths.
    """
    times = np.array(checked_shares("seconds", seconds, len(lengths)))
    if len(times) < 3:
        raise InvalidArgument(f"{len(times)} batches do not tell three parts of a cost; measure more")
    columns = np.array([_sums(batch) for batch in lengths])
    scale = np.maximum(columns.max(axis=0), 1.0)  # so that squares of lengths do not drown the rest
    linear, quadratic, fixed = (_least_squares(columns / scale, times) / scale).tolist()
    if linear + quadratic == 0:
        raise InvalidArgument("the times do not grow with the lengths: measure batches of different lengths")
    return Cost(linear, quadratic, fixed)


def _sums(batch: ArrayLike) -> list[float]:
    n: Floats = np.asarray(batch, np.float64)
    return [float(n.sum()), float((n * n).sum()), 1.0]


def _least_squares(columns: Floats, wanted: Floats) -> Floats:
    """The best factors that are not negative: the best of all choices of columns whose own best are not."""
    best, least = np.zeros(columns.shape[1]), float(wanted @ wanted)
    for chosen in _choices(columns.shape[1]):
        factors, *_ = np.linalg.lstsq(columns[:, chosen], wanted, rcond=None)
        rest = wanted - columns[:, chosen] @ factors
        if (factors >= 0).all() and rest @ rest < least:
            best, least = np.zeros(columns.shape[1]), float(rest @ rest)
            best[chosen] = factors
    return best


def _choices(count: int) -> list[list[Any]]:
    return [list(c) for size in range(1, count + 1) for c in combinations(range(count), size)]


__all__ = ["Cost", "fit_cost"]
