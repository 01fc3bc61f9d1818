"""The order of shuffled samples: the native permutation is the reference's, bijective, and by chance."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from thinwire import InvalidArgument, _core
from thinwire.data.order import LARGEST, Order
from thinwire.reference.permutation import permuted

VECTORS = Path(__file__).parents[1] / "vectors" / "permutation.json"
keys = st.integers(0, 2**64 - 1)


def taken(size: int, key: int, start: int, count: int) -> NDArray[np.int64]:
    out = np.empty(count, np.int64)
    _core.Permutation(size, key).take(start, count, out.ctypes.data)
    return out


def far_from_chance(observed: NDArray[np.int64], expected: float) -> float:
    """Standard deviations between chi-square of equally likely cells and its mean."""
    freedom = observed.size - 1
    return float((((observed - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def test_the_vectors() -> None:
    for case in json.loads(VECTORS.read_text())["cases"]:
        assert taken(case["size"], case["key"], case["start"], len(case["taken"])).tolist() == case["taken"]


@given(st.one_of(st.integers(1, 100), st.integers(1, LARGEST)), keys, st.data())
def test_the_native_permutation_is_the_references(size: int, key: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, min(size, 50)))
    start = data.draw(st.integers(0, size - count))
    assert (taken(size, key, start, count) == permuted(np.arange(start, start + count), size, key)).all()


@given(st.integers(1, 3000), keys)
def test_every_index_comes_once(size: int, key: int) -> None:
    assert (np.sort(taken(size, key, 0, size)) == np.arange(size)).all()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_order_of_a_few_is_equally_likely(size: int) -> None:
    orders = 400 * math.factorial(size)
    numbers = size ** np.arange(size)
    found = [int(taken(size, key, 0, size) @ numbers) for key in range(min(orders, 40_000))]
    _, observed = np.unique(found, return_counts=True)
    assert observed.size == math.factorial(size)
    assert far_from_chance(observed, len(found) / observed.size) < 4


@pytest.mark.parametrize("size", [10, 97, 1000, 2**31 + 12345])
def test_a_place_takes_every_sample_equally_often(size: int) -> None:
    cells, orders = min(size, 100), 10_000
    for place in {0, 1, size // 2, size - 1}:
        found = np.array([taken(size, key, place, 1)[0] for key in range(orders)])
        observed = np.bincount(found * cells // size, minlength=cells)
        assert abs(far_from_chance(observed, orders / cells)) < 4.5


@pytest.mark.parametrize("size", [1024, 100_000, 10**10])
def test_neighbours_and_their_distances_are_by_chance(size: int) -> None:
    found = np.concatenate([taken(size, key, 0, 1000) for key in range(100)]).reshape(100, 1000)
    cells = 16
    place = found * cells // size
    pairs = np.bincount((place[:, :-1] * cells + place[:, 1:]).ravel(), minlength=cells**2)
    assert abs(far_from_chance(pairs, pairs.sum() / cells**2)) < 5
    distances = (found[:, 1:] - found[:, :-1]) % size * cells // size
    counts = np.bincount(distances.ravel(), minlength=cells)
    assert abs(far_from_chance(counts, counts.sum() / cells)) < 5


def test_each_bit_of_index_and_key_changes_half_of_the_bits() -> None:
    bits, trials = 20, 400
    size = 2**bits
    start = np.arange(trials) * 2621
    base = np.array([taken(size, 99, int(i), 1)[0] for i in start])
    for bit in range(bits):
        changed = np.array([taken(size, 99, int(i ^ (1 << bit)), 1)[0] for i in start])
        flips = np.unpackbits((base ^ changed).astype(">u8").view(np.uint8)).reshape(trials, 64)[:, -bits:]
        assert np.abs(flips.mean(axis=0) - 0.5).max() < 0.13  # of 400 trials: 5 deviations
    for bit in range(64):
        changed = taken(size, 99 ^ (1 << bit), 0, trials)
        flips = np.unpackbits((taken(size, 99, 0, trials) ^ changed).astype(">u8").view(np.uint8))
        assert abs(flips.reshape(trials, 64)[:, -bits:].mean() - 0.5) < 0.03


def test_ten_billion_samples_take_no_memory() -> None:
    tracemalloc.start()
    try:
        order = Order(10**10, (0, 0))
        batches = [order.take(start, 64) for start in range(0, 10**10, 10**8)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = np.concatenate(batches)
    assert np.unique(found).size == found.size
    assert found.max() > 2**32
    assert peak < 200_000


def test_orders_of_other_keys_have_nothing_in_common() -> None:
    first, second = Order(10_000, (0, 1)).take(0, 10_000), Order(10_000, (1, 0)).take(0, 10_000)
    assert (first == second).sum() < 10
    assert (Order(10_000, (0, 1)).take(0, 10_000) == first).all()
    assert (Order(10, None).take(3, 4) == [3, 4, 5, 6]).all()


def test_what_lies_beyond_is_refused() -> None:
    for size in (0, LARGEST + 1):
        with pytest.raises(InvalidArgument, match="1 to 2\\^62"):
            Order(size, (0, 0))
    with pytest.raises(InvalidArgument, match="below the size, 5"):
        Order(5, (0, 0)).take(3, 3)
