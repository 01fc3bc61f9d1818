"""Drift: data of one distribution is stable at any size, and what has changed is found and named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thinwire.data import Quality, drift
from thinwire.errors import DataDrift, InvalidArgument


def counted(**columns: Any) -> Quality:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    dtype = np.dtype([(name, values.dtype) for name, values in arrays.items()])
    records = np.zeros(len(next(iter(arrays.values()))), dtype)
    for name, values in arrays.items():
        records[name] = values
    quality = Quality(dtype, label="label" if "label" in columns else None, duplicates=False)
    quality.update(records)
    return quality


def normal(count: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(shift, spread, count)


@pytest.mark.parametrize("sizes", [(30, 30), (100, 1000), (100_000, 50), (100_000, 100_000)])
def test_equal_data_is_stable_at_any_size(sizes: tuple[int, int]) -> None:
    verdicts = [
        drift(counted(x=normal(sizes[0], 2 * seed)), counted(x=normal(sizes[1], 2 * seed + 1))).verdict
        for seed in range(40)
    ]
    assert verdicts.count("stable") >= 37


@pytest.mark.parametrize("change", [{"shift": 0.7}, {"spread": 2.0}, {"shift": -3.0}])
def test_a_change_is_found_and_named(change: dict[str, float]) -> None:
    found = drift(
        counted(x=normal(5000, 0), same=normal(5000, 1)),
        counted(x=normal(5000, 2, **change), same=normal(5000, 3)),
    )
    assert {row.name: row.verdict for row in found.rows} == {"x": "drifted", "same": "stable"}
    assert found.verdict == "drifted"
    assert "verdict: drifted, in 1 of 2 fields: x" in str(found)
    assert found.as_dict()["fields"]["x"]["psi"] > 0.1
    with pytest.raises(DataDrift, match=r"in x \(drifted, PSI"):
        found.raise_if()


def test_a_small_change_among_many_values_is_stable() -> None:
    found = drift(counted(x=normal(300_000, 0)), counted(x=normal(300_000, 1, shift=0.03)))
    assert found.verdict == "stable"
    assert found.rows[0].distance > found.rows[0].distance_noise
    found.raise_if("moderate")
    with pytest.raises(DataDrift):
        found.raise_if("stable")
    with pytest.raises(InvalidArgument, match="verdict is 'bad'"):
        found.raise_if("bad")  # type: ignore[arg-type]


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    one, other = np.arange(0, 1000), np.arange(300, 1300)
    (row,) = drift(counted(x=one), counted(x=other)).rows
    assert row.distance == pytest.approx(0.3, abs=0.02)  # a bin of integers from 256 on holds 16 of them
    expected = math.sqrt(-math.log(0.01 / 2) / 2 * (2 / 1000))
    assert row.distance_noise == pytest.approx(expected)


def test_psi_is_the_formula_over_tenths_of_the_reference() -> None:
    reference = np.repeat(np.arange(10), 1000)
    shares = np.array([0.19, 0.01, *[0.1] * 8])
    current = np.repeat(np.arange(10), (shares * 10_000).astype(int))
    (row,) = drift(counted(x=reference), counted(x=current)).rows
    expected = 0.09 * math.log(1.9) - 0.09 * math.log(0.1)
    assert row.psi == pytest.approx(expected, rel=0.02)


def test_values_that_vanish_are_drift() -> None:
    values = normal(2000, 0)
    gaps = np.where(np.arange(2000) % 3, values, np.nan)
    assert drift(counted(x=values), counted(x=gaps)).verdict == "drifted"
    zeros = np.zeros(2000)
    assert drift(counted(x=zeros), counted(x=zeros - 1)).verdict == "drifted"
    assert drift(counted(x=zeros), counted(x=-zeros)).verdict == "stable"


def test_classes_are_compared() -> None:
    labels = np.resize(np.arange(5), 4000)
    skewed = np.where(np.arange(4000) % 2, 0, labels)
    found = drift(counted(label=labels), counted(label=skewed))
    rows = {row.name: row for row in found.rows}
    assert rows["classes of the label"].verdict == "drifted"
    assert rows["classes of the label"].distance == pytest.approx(0.4, abs=1e-3)
    assert drift(counted(label=labels), counted(label=labels[::-1])).verdict == "stable"


@pytest.mark.parametrize("sizes", [(20, 30), (50, 5000), (50_000, 50_000)])
def test_few_labels_are_no_alarm(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = (counted(label=random.integers(0, 8, size)) for size in sizes)
        assert drift(one, other).rows[-1].verdict == "stable"


def test_nothing_to_compare_is_unknown() -> None:
    found = drift(counted(x=normal(10, 0)), Quality([("x", "f8")], duplicates=False))
    assert found.verdict == "unknown"
    assert "nothing to compare" in str(found)
    found.raise_if("stable")


def test_members_that_came_or_went_are_drift() -> None:
    one, other = Quality("jsonl"), Quality("jsonl")
    one.update([b'{"a": 1, "b": 2}'] * 100)
    other.update([b'{"a": 1, "c": 2}'] * 100)
    found = {row.name: row.verdict for row in drift(one, other).rows}
    assert found == {"len(record)": "stable", "a": "stable", "b": "drifted", "c": "drifted"}


def test_other_fields_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="field 'x' is float64 in one summary, int64"):
        drift(counted(x=normal(9, 0)), counted(x=np.arange(9)))
    with pytest.raises(InvalidArgument, match=r"field '[xy]' is in one"):
        drift(counted(x=normal(9, 0)), counted(y=normal(9, 0)))
    with pytest.raises(InvalidArgument, match="alpha is 2"):
        drift(counted(x=normal(9, 0)), counted(x=normal(9, 0)), alpha=2)
    with pytest.raises(InvalidArgument, match="this is a dict"):
        drift({}, {})  # type: ignore[arg-type]
