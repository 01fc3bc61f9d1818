"""Costs, and fitting them to measured times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thinwire import InvalidArgument
from thinwire.data import Cost, fit_cost


def batches(count: int, seed: int = 0) -> list[Any]:
    """Lengths of the samples of some batches of different sizes."""
    chance = np.random.default_rng(seed)
    return [chance.integers(10, 4000, chance.integers(4, 40)) for _ in range(count)]


@pytest.mark.parametrize(
    "cost", [Cost(1e-6, 2e-9, 3e-3), Cost(1e-6, 0.0, 3e-3), Cost(0.0, 2e-9), Cost(5e-5, 1e-8), Cost(1e-9)]
)
def test_a_fit_finds_the_cost_behind_the_times(cost: Cost) -> None:
    lengths = batches(50)
    seconds = [float(cost(batch).sum()) + cost.fixed for batch in lengths]
    found = fit_cost(lengths, seconds)
    assert (found.linear, found.quadratic, found.fixed) == pytest.approx(
        (cost.linear, cost.quadratic, cost.fixed), rel=1e-6, abs=1e-12
    )


def test_a_fit_bears_noise_and_never_goes_below_zero() -> None:
    cost, chance = Cost(1e-6, 1e-10, 1e-3), np.random.default_rng(1)
    lengths = batches(200)
    seconds = [(float(cost(batch).sum()) + cost.fixed) * chance.uniform(0.9, 1.1) for batch in lengths]
    found = fit_cost(lengths, seconds)
    predicted = [float(found(batch).sum()) + found.fixed for batch in lengths]
    assert predicted == pytest.approx(seconds, rel=0.15)
    assert min(found.linear, found.quadratic, found.fixed) >= 0


def test_cost_of_lengths() -> None:
    assert Cost(2.0, 0.5)([[1, 2], [4, 0]]).tolist() == [[2.5, 6.0], [16.0, 0.0]]


def test_what_tells_no_cost_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="measure more"):
        fit_cost([[1], [2]], [1.0, 2.0])
    with pytest.raises(InvalidArgument, match="do not grow with the lengths"):
        fit_cost([[1, 2], [3, 4], [5, 6]], [3.0, 2.0, 1.0])
    with pytest.raises(InvalidArgument, match="3 positive numbers"):
        fit_cost([[1], [2], [3]], [1.0, 2.0])
    for parts in ((-1, 1), (0, 0), (float("nan"), 1)):
        with pytest.raises(InvalidArgument, match="no part of a cost is negative"):
            Cost(*parts)
