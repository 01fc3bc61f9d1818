"""Counters of whole records: structured ones, their classes and duplicates, merged in any order."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import thinwire as tw
from data.counted import (
    INTEGERS,
    RECORD,
    check,
    check_records,
    only_field,
    quality_of_records,
    some_records,
)
from thinwire.data import Quality
from thinwire.reference import summary as reference


def test_structured_records_with_gaps() -> None:
    records = some_records(3000)
    records[100:150] = records[:50]
    quality = quality_of_records()
    for part in np.array_split(records, [1, 2, 17, 1100]):
        quality.update(part)
    check_records(quality, records)
    spaced = np.zeros((len(records), 100), np.uint8)
    spaced[:, :72] = records.view(np.uint8).reshape(-1, 72)
    quality = quality_of_records()
    quality.update_rows(spaced.ctypes.data, len(records), 100)
    check_records(quality, records)


def test_a_view_that_is_not_contiguous_and_a_choice_of_fields() -> None:
    records = some_records(500)
    quality = Quality(RECORD[["x", "label"]], duplicates=False)
    quality.update(records[::2][["x", "label"]])
    assert list(quality.fields) == ["x", "label"]
    with np.errstate(all="ignore"):
        check(quality.fields["x"], reference.counters(records["x"][::2]))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 2**31))
def test_merging_in_any_order_gives_the_whole(order: list[int], seed: int) -> None:
    records = some_records(600, seed)
    records[300:330] = records[:30]
    parts = [quality_of_records() for _ in order]
    for part, chunk in zip(parts, np.array_split(records, 5), strict=True):
        part.update(chunk)
    merged = quality_of_records()
    for at in order:
        merged.merge(Quality.from_state(json.loads(json.dumps(parts[at].state()))))
    check_records(merged, records)
    merged.update(records[:10])
    assert merged.records == 610


def test_records_of_one_dtype_and_shape() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 7)).astype(np.uint8)
    for fields in (None, "uint8", ("u1", (5, 7))):
        quality = Quality(fields)
        quality.update(images)
        check(only_field(quality), reference.counters(images))
        assert quality.records == 40


def test_a_label_of_bytes_and_unsigned_ones() -> None:
    words = np.array([b"cat", b"dog", b"cat", b"", b"bird"], "S4").view([("word", "S4")])
    quality = Quality(label="word")
    quality.update(words)
    assert quality.classes == {b"": 1, b"bird": 1, b"cat": 2, b"dog": 1}
    for type in INTEGERS:
        limits = np.iinfo(type)
        labels = np.array([limits.max, limits.min, 1, limits.max], type).view([("label", type)])
        quality = Quality(label="label")
        quality.update(labels)
        assert quality.classes == {int(limits.min): 1, 1: 1, int(limits.max): 2}


def test_too_many_classes_keep_the_first_in_any_order() -> None:
    labels = np.random.default_rng(0).integers(-50, 50, 4000)
    expected = dict(sorted(Counter(labels.tolist()).items())[:10])
    array = labels.view([("label", "i8")])
    for shuffled in (array, array[::-1], np.sort(array)):
        quality, other = (Quality(label="label", classes=10) for _ in range(2))
        quality.update(shuffled[:1000])
        other.update(shuffled[1000:])
        quality.merge(other)
        assert quality.classes == expected
        assert quality.as_dict()["other_classes"] == 4000 - sum(expected.values())


def sampled(records: NDArray[Any], limit: int, parts: int, seed: int) -> Quality:
    """Counted in `parts` shuffled parts, which are then merged."""
    order = np.random.default_rng(seed).permutation(len(records))
    made = [Quality("int64", duplicates=limit) for _ in range(parts)]
    for quality, chosen in zip(made, np.array_split(order, parts), strict=True):
        quality.update(records[chosen])
    for other in made[1:]:
        made[0].merge(other)
    return made[0]


def kept(quality: Quality) -> set[tuple[bytes, int]]:
    found = quality.duplicates
    assert found is not None
    return {(digest.tobytes(), int(times)) for digest, times in zip(found.digests, found.times, strict=True)}


def test_what_a_sample_keeps_depends_on_the_records_alone() -> None:
    records = np.random.default_rng(1).integers(0, 4000, 9000)
    whole = sampled(records, 500, 1, seed=0)
    assert whole.duplicates is not None
    assert whole.duplicates.level >= 3
    digests = {tw.xxh3_128(record): times for record, times in Counter(r.tobytes() for r in records).items()}
    first = 2 ** (128 - whole.duplicates.level)
    assert kept(whole) == {item for item in digests.items() if int.from_bytes(item[0], "big") < first}
    for parts in (2, 3, 7):
        again = sampled(records, 500, parts, seed=parts)
        assert again.duplicates is not None
        assert (kept(again), again.duplicates.level) == (kept(whole), whole.duplicates.level)


def test_estimates_are_unbiased() -> None:
    counts = []
    for seed in range(60):
        records = np.arange(6000) * 1000 + seed * 10**9
        records[3000:] = records[:3000]
        found = sampled(records, 256, 1, 0).duplicates
        assert found is not None
        assert not found.is_exact
        counts.append(found.count)
    error = np.std(counts) / math.sqrt(len(counts))
    assert 0 < error < 60
    assert abs(np.mean(counts) - 3000) < 4 * error


def test_the_table_says_what_is_exact() -> None:
    quality = quality_of_records()
    assert "records     0" in str(quality)
    quality.update(some_records(50))
    text = str(quality)
    for part in ("records     50", "exact", "inner.b", "len(word)", "classes of label: "):
        assert part in text
    assert "estimated from 1 in" in str(sampled(np.arange(2000), 100, 1, 0))
