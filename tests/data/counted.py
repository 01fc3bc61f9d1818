"""Records whose counters are known, and what is checked of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thinwire.data import Quality
from thinwire.data.field_summary import FieldSummary
from thinwire.reference import summary as reference

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]
EXACT = ("values", "missing", "nan", "positive_infinity", "negative_infinity", "zeros", "finite")
COUNTS = (*EXACT, "least", "greatest")


def any_values(type: str, count: int, seed: int = 0) -> NDArray[Any]:
    """Values of all bit patterns, and a share of ordinary ones, zeros and repeats."""
    random = np.random.default_rng(seed)
    if type == "bool":
        return random.integers(0, 2, count).astype(bool)
    dtype = np.dtype(type)
    values = np.frombuffer(random.bytes(count * dtype.itemsize), dtype).copy()
    kind = random.integers(0, 6, count)
    values[kind == 0] = 0
    values[kind == 1] = 7
    if dtype.kind == "f":
        values[kind == 2] = random.normal(size=int((kind == 2).sum()))
        values[kind == 3] = -0.0
        values[kind == 4] = np.resize([np.inf, -np.inf, np.nan], int((kind == 4).sum()))
    return values


def check(found: FieldSummary, expected: dict[str, Any]) -> None:
    for name in COUNTS:
        assert getattr(found, name) == expected[name], name
    assert np.array_equal(found.bins, expected["bins"])
    scale = max(abs(found.least), abs(found.greatest)) if found.finite else 1.0
    if math.isfinite(found.mean) and scale < 1e150:
        assert found.mean == pytest.approx(expected["mean"], rel=1e-12, abs=1e-14 * scale)
        assert found.squares == pytest.approx(expected["squares"], rel=1e-9, abs=1e-25)


def only_field(quality: Quality) -> FieldSummary:
    (field,) = quality.fields.values()
    return field


RECORD = np.dtype(
    {
        "names": ["x", "inner", "label", "word", "grid"],
        "formats": ["f4", [("a", "i2"), ("b", "f8")], "i4", "S6", ("u1", (5, 7))],
        "offsets": [3, 8, 20, 25, 32],
        "itemsize": 72,
    }
)


def some_records(count: int, seed: int = 0) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    made = np.zeros(count, RECORD)
    made["x"] = any_values("float32", count, seed)
    made["inner"]["a"] = random.integers(-3, 3, count)
    made["inner"]["b"] = random.normal(size=count)
    made["label"] = random.integers(-4, 5, count)
    made["word"] = random.choice([b"", b"a", b"bb", b"cccccc"], count)
    made["grid"] = random.integers(0, 256, (count, 5, 7))
    return made


def check_records(quality: Quality, records: NDArray[Any]) -> None:
    with np.errstate(all="ignore"):
        check(quality.fields["x"], reference.counters(records["x"]))
        check(quality.fields["inner.a"], reference.counters(records["inner"]["a"], missing=-1))
        check(quality.fields["inner.b"], reference.counters(records["inner"]["b"]))
        check(quality.fields["grid"], reference.counters(records["grid"]))
    lengths = np.char.str_len(records["word"])
    check(quality.fields["len(word)"], reference.counters(lengths, missing=0))
    assert quality.classes == dict(sorted(Counter(records["label"].tolist()).items()))
    assert quality.records == len(records)
    assert quality.duplicates is not None
    raw = [record.tobytes() for record in records]
    assert quality.duplicates.count == len(raw) - len(set(raw))


def quality_of_records() -> Quality:
    return Quality(RECORD, label="label", missing={"inner.a": -1})
