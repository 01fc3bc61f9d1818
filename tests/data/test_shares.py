"""WeightedShares: shares follow speeds, within bounds, and sum up to one; dividing by shares."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire import InvalidArgument
from thinwire.data import ElasticSampler, WeightedShares
from thinwire.data.batches import apportion

positive = st.floats(1e-3, 1e3)


def settled(speeds: list[float], **options: Any) -> WeightedShares:
    """The shares of ranks that keep such speeds."""
    shares = WeightedShares(len(speeds), **options)
    for _ in range(200):
        shares.update([speed * 2 for speed in speeds], [2.0] * len(speeds))
    return shares


@given(st.lists(positive, min_size=1, max_size=9), st.integers(0, 10_000))
def test_samples_are_divided_by_shares(shares: list[float], total: int) -> None:
    counts = apportion(total, tuple(shares))
    assert counts.sum() == total
    assert counts.min() >= (1 if total >= len(shares) else 0)
    quotas = np.array(shares) * total / math.fsum(shares)
    if quotas.min() >= 1:
        assert (np.abs(counts - quotas) < 1).all()
    assert (np.diff(counts[np.argsort(shares, kind="stable")]) >= -1).all()


def test_equal_shares_divide_evenly() -> None:
    assert apportion(11, (0.25,) * 4).tolist() == [3, 3, 3, 2]
    assert apportion(2, (1.0,) * 4).tolist() == [1, 1, 0, 0]
    assert apportion(100, (1.0, 1e-9)).tolist() == [99, 1]


def test_shares_settle_at_the_speeds() -> None:
    shares = settled([100.0, 200.0, 100.0])
    assert shares.speeds == pytest.approx((100, 200, 100))
    assert shares.shares == pytest.approx((0.25, 0.5, 0.25))
    sampler = ElasticSampler(8000, 20, 1, 3)
    sampler.set_shares(shares.shares)
    assert len(next(iter(sampler))) == 30


def test_no_rank_takes_more_than_its_memory_holds() -> None:
    assert settled([10, 1, 1, 1, 2], most=2.0).shares == pytest.approx((0.4, 0.12, 0.12, 0.12, 0.24))
    assert settled([10, 10, 1, 1], most=1.5).shares == pytest.approx((0.375, 0.375, 0.125, 0.125))
    assert settled([10, 1], most=1.0).shares == pytest.approx((0.5, 0.5))


@given(st.lists(st.tuples(positive, positive, positive), min_size=1, max_size=30), st.floats(0.01, 1))
def test_every_update_moves_a_little_and_keeps_the_sum(
    speeds: list[tuple[float, ...]], change: float
) -> None:
    shares = WeightedShares(3, smoothing=0.5, change=change)
    before = shares.shares
    for measured in speeds:
        after = shares.update(measured, [1.0] * 3)
        assert math.fsum(after) == pytest.approx(1, abs=1e-12)
        assert min(after) > 0
        assert max(abs(new - old) for new, old in zip(after, before, strict=True)) <= change / 3 + 1e-12
        before = after


def test_measurements_are_smoothed() -> None:
    shares = WeightedShares(2, smoothing=0.25)
    shares.update([10, 10], [1.0, 1.0])
    shares.update([30, 0], [1.0, 1.0])  # a rank without samples tells nothing
    assert shares.speeds == (15.0, 10.0)


def test_a_first_measurement_without_samples_counts_as_the_mean() -> None:
    shares = WeightedShares(3)
    shares.update([10, 0, 20], [1.0, 1.0, 1.0])
    assert shares.speeds == (10.0, 15.0, 20.0)


def test_a_state_resumes_and_one_of_other_ranks_starts_anew() -> None:
    shares = settled([1, 3])
    state = json.loads(json.dumps(shares.state_dict()))
    resumed = WeightedShares(2)
    resumed.load_state_dict(state)
    assert resumed.update([1, 1], [1.0, 1.0]) == shares.update([1, 1], [1.0, 1.0])
    others = WeightedShares(3)
    others.load_state_dict(state)
    assert (others.shares, others.speeds) == ((1 / 3,) * 3, None)
    for wrong in (None, {}, {"shares": 3}, {**state, "shares": [1, -1]}, {**state, "speeds": [1]}):
        with pytest.raises(InvalidArgument):
            resumed.load_state_dict(wrong)


@pytest.mark.parametrize(
    ("samples", "seconds", "message"),
    [
        ([1, 2], [1, 0], "seconds"),
        ([1, 2], [1], "seconds"),
        ([1, 2], [1, float("nan")], "seconds"),
        ([1], [1, 1], "samples"),
        ([1, -1], [1, 1], "samples"),
        ([1, float("inf")], [1, 1], "samples"),
        ([0, 0], [1, 1], "0 on every rank"),
    ],
)
def test_measurements_that_do_not_fit(samples: Any, seconds: Any, message: str) -> None:
    shares = WeightedShares(2)
    with pytest.raises(InvalidArgument, match=message):
        shares.update(samples, seconds)
    assert shares.shares == (0.5, 0.5)


@pytest.mark.parametrize(
    "options", [{"world_size": 0}, {"smoothing": 0}, {"smoothing": 1.5}, {"change": 0}, {"most": 0.5}]
)
def test_arguments_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        WeightedShares(**{"world_size": 2, **options})
