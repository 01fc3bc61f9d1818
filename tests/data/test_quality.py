"""Counters of data: against NumPy and the reference, merged, saved, and asked for what cannot be."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import thinwire as tw
from thinwire import _core
from thinwire.data import Quality
from thinwire.data.bins import BINS, MIDDLES, RISING
from thinwire.data.field_summary import FieldSummary, from_native
from thinwire.errors import InvalidArgument
from thinwire.reference import numerics
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


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("type", ["bool", *INTEGERS, *FLOATS])
def test_every_dtype_is_counted_as_the_reference_counts(type: str) -> None:
    with np.errstate(all="ignore"):
        for count in (1, 7, 8, 9, 1024, 2500):
            values = any_values(type, count, seed=count)
            quality = Quality(duplicates=False)
            quality.update(values)
            check(only_field(quality), reference.counters(values))


def test_bfloat16_is_counted_from_its_bits() -> None:
    bits = any_values("uint16", 3000)
    values = numerics.from_bf16(bits)
    for array, fields in ((bits.view("V2"), None), (bits.view("V2"), "bfloat16")):
        quality = Quality(fields)
        quality.update(array)
        check(only_field(quality), reference.counters(values))


def test_tensors_are_counted() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(600, dtype=torch.float32).reshape(100, 6)
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        quality = Quality()
        quality.update(tensor.to(dtype))
        check(only_field(quality), reference.counters(tensor.to(dtype).to(torch.float64).numpy()))
        assert quality.records == 100


def test_every_target_comes_to_the_same_bits() -> None:
    values = any_values("float32", 100_003)
    states = []
    for target in tw.targets():
        with tw.force_target(target):
            quality = Quality(duplicates=False)
            quality.update(values)
            states.append(quality.state())
    assert all(state == states[0] for state in states)


def test_denormals_count_where_the_thread_flushes_them() -> None:
    torch = pytest.importorskip("torch")
    values = np.full(64, 2.0**-140, np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        quality = Quality()
        quality.update(values)
    finally:
        torch.set_flush_denormal(False)
    assert only_field(quality).zeros == 0
    assert only_field(quality).mean == 2.0**-140


def test_bins_cover_the_line_in_order() -> None:
    assert sorted(RISING.tolist()) == list(range(BINS))
    assert (np.diff(MIDDLES) >= 0).all()
    for at in (0, 1, 15, 16, 17, 2000, 254 * 16 + 15):
        place = RISING.tolist().index(at)
        assert reference.bin_of(float(MIDDLES[place])) == at
        assert math.copysign(1, MIDDLES[place]) > 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=64, allow_nan=False, allow_infinity=False), min_size=1, max_size=50),
    st.floats(0, 1),
)
def test_quantiles_are_within_their_bound(values: list[float], share: float) -> None:
    quality = Quality()
    quality.update(np.array(values))
    ranked = sorted(values)
    expected = ranked[max(1, math.ceil(share * len(values))) - 1]
    found = only_field(quality).quantile(share)
    if abs(expected) < 2.0**128:
        assert abs(found - expected) <= max(2.0**-5 * abs(expected), 2.0**-130)


def test_quantiles_of_small_integers_are_exact() -> None:
    values = np.arange(-31, 32, dtype=np.int64)
    quality = Quality()
    quality.update(values)
    for at, value in enumerate(values):
        assert only_field(quality).quantile((at + 1) / len(values)) == value
    with pytest.raises(InvalidArgument, match=r"share is 1\.5"):
        only_field(quality).quantile(1.5)


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


LINES = [
    b'{"id": 1, "text": "a\\"b", "ok": true, "tags": ["]", {"x": "}"}], "more": null}\n',
    b'  {"text":"","id":-2.5e3 }\r\n',
    b"{}",
    b'{"id": "three", "id": 4, "ok": false}\n',
    b'{"id": 1e999, "text": "\xc3\xa9"}',
    b'{"id": 1} trailing',
    b'{"id": 01}',
    b"[1]",
    b"",
    b'{"id": tru}',
    b'{"tags": [1, 2}',
]


def test_members_of_json_lines() -> None:
    quality = Quality("jsonl", label="id")
    quality.update(LINES)
    found = quality.as_dict()
    assert (found["records"], found["malformed"]) == (11, 6)
    assert found["members"]["id"] == {
        **{"numbers": 3, "strings": 1, "booleans": 0, "nulls": 0, "nested": 0},
        "absent": 1,
    }
    assert found["members"]["ok"] == {
        **{"numbers": 0, "strings": 0, "booleans": 2, "nulls": 0, "nested": 0},
        "absent": 3,
    }
    assert found["members"]["tags"]["nested"] == 1
    assert found["members"]["more"]["nulls"] == 1
    numbers = quality.fields["id"]
    assert (numbers.values, numbers.missing, numbers.positive_infinity) == (3, 2, 1)
    assert (numbers.least, numbers.greatest) == (-2500.0, 1.0)
    assert (quality.fields["len(text)"].values, quality.fields["len(text)"].greatest) == (3, 4.0)
    assert quality.fields["ok"].mean == 0.5
    assert quality.classes == {'"three"': 1, "-2.5e3": 1, "1": 1, "1e999": 1}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5), st.booleans())
def test_json_is_read_as_python_reads_it(record: dict[str, Any], plain: bool) -> None:
    quality = Quality("jsonl")
    quality.update([json.dumps(record, ensure_ascii=plain, indent=1).encode()])
    members = quality.summary().members
    assert members is not None
    assert members.malformed == 0
    found = {json.loads(b'"' + name + b'"'): member for name, member in members.by_name.items()}
    assert found.keys() == record.keys()
    for name, value in record.items():
        kind = {bool: "booleans", int: "numbers", float: "numbers", str: "strings", type(None): "nulls"}
        assert found[name].kinds(1)[kind.get(type(value), "nested")] == 1
        if isinstance(value, float):
            assert found[name].values.least == value


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]":,\\01e-. tn', max_size=30).map(str.encode))
def test_objects_that_python_reads_are_not_malformed(line: bytes) -> None:
    try:
        value = json.loads(line.decode(errors="replace"), parse_constant=lambda _: 1 / 0)
        is_object = isinstance(value, dict)
    except (ValueError, ZeroDivisionError):
        is_object = False
    quality = Quality("jsonl", duplicates=False)
    quality.update([line])
    members = quality.summary().members
    assert members is not None
    assert members.malformed <= (0 if is_object else 1)


def test_too_many_names_keep_the_first_in_any_order() -> None:
    lines = [json.dumps({f"n{i % 40:02}": i}).encode() for i in range(400)]
    for order in (lines, lines[::-1]):
        one, other = (Quality("jsonl", names=8) for _ in range(2))
        one.update(order[:70])
        other.update(order[70:])
        one.merge(other)
        found = one.as_dict()
        assert list(found["members"]) == [f"n0{i}" for i in range(8)]
        assert all(kinds["numbers"] == 10 for kinds in found["members"].values())
        assert one.summary().members is not None
        assert one.summary().members.others == 320


def test_ragged_records_and_a_line_end_that_is_no_part() -> None:
    quality = Quality()
    quality.update([b"one", b"", b"three", b"one"])
    assert only_field(quality).mean == pytest.approx(11 / 4)
    assert quality.duplicates is not None
    assert quality.duplicates.count == 1
    lines = Quality("jsonl")
    lines.update([b'{"a": 1}\n', b'{"a": 1}\r\n', b'{"a": 1}'])
    assert lines.duplicates is not None
    assert lines.duplicates.count == 2


def test_the_table_says_what_is_exact() -> None:
    quality = quality_of_records()
    assert "records     0" in str(quality)
    quality.update(some_records(50))
    text = str(quality)
    for part in ("records     50", "exact", "inner.b", "len(word)", "classes of label: "):
        assert part in text
    assert "estimated from 1 in" in str(sampled(np.arange(2000), 100, 1, 0))


def refused(part: str, act: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(InvalidArgument, match=part):
        act(*arguments, **options)


def test_what_is_refused_names_the_field() -> None:
    refused("'when' is of dtype datetime64", Quality, [("a", "f4"), ("when", "M8[s]")])
    refused("'a' is of dtype >f4", Quality, [("a", ">f4")])
    refused("label is 'b'; the fields are", Quality, [("a", "f4")], label="b")
    refused("label 'a' is float32", Quality, [("a", "f4")], label="a")
    refused("missing names 'b'", Quality, [("a", "f4")], missing={"b": 0})
    refused("classes is 0", Quality, classes=0)
    refused("duplicates is -1", Quality, duplicates=-1)
    refused("'ragged' or 'jsonl'", Quality, "nonsense")
    refused("field 'a' is to be float32", Quality([("a", "f4"), ("b", "i4")]).update, np.zeros(3, "f8"))
    refused("field 'value' is to be float32", Quality("f4").update, np.zeros(3, "f8"))
    refused("field 'a' is to be float32", Quality([("a", "f4")]).update, np.zeros(3, "f4,f8"))
    refused("field 'value' is to be float32", Quality("f4").update, np.zeros(3, [("a", "f4")]))
    refused("need their dtype", Quality("jsonl").update_rows, 0, 0, 4)
    refused("cannot lie 3 bytes apart", Quality([("a", "f4")]).update_rows, 0, 0, 3)
    refused("no whole number of float32", Quality("f4").update_rows, 0, 0, 6)
    refused("offsets falls from 5 to 4 at record 1", Quality("ragged").update_ragged, 0, [0, 5, 4])
    refused("fields is a dtype", Quality("f4").update, [b"bytes"])


def test_summaries_that_do_not_fit_are_refused() -> None:
    one, other = Quality([("a", "f4"), ("b", "i4")]), Quality([("a", "f8"), ("b", "i4")])
    refused("field 'a' is float32 in one summary, float64", one.merge, other)
    refused("field 'b' is in one", one.merge, Quality([("a", "f4")]))
    refused("label is None in one", one.merge, Quality([("a", "f4"), ("b", "i4")], label="b"))
    refused("has no duplicates", one.merge, Quality([("a", "f4"), ("b", "i4")], duplicates=False))
    refused("one counts records, the other jsonl", one.merge, Quality("jsonl"))
    refused("does not know its fields", one.merge, Quality())


def test_damaged_states_are_refused() -> None:
    quality = quality_of_records()
    quality.update(some_records(20))
    state = quality.state()
    refused("version 2", Quality.from_state, {**state, "thinwire_quality": 2})
    refused("or none", Quality.from_state, {})
    for key in ("settings", "records", "fields", "duplicates", "classes"):
        refused("damaged", Quality.from_state, {k: v for k, v in state.items() if k != key})
    counts = {**state["fields"]["x"], "finite": 3}
    refused("field 'x' .* contradict", Quality.from_state, {**state, "fields": {"x": counts}})
    digests = {**state["duplicates"], "digests": "AAAA"}
    refused("digests", Quality.from_state, {**state, "duplicates": digests})


def test_native_summaries_check_their_layout() -> None:
    refused("ends beyond the record", _core.RecordSummary, 4, [("float32", 1, 1, None)], None, 1, 0)
    refused("cannot be summarised", _core.RecordSummary, 4, [("complex64", 0, 1, None)], None, 1, 0)
    refused("not a floating-point", _core.RecordSummary, 4, [("float32", 0, 1, None)], 0, 1, 0)
    counted = _core.RecordSummary(4, [("float32", 0, 1, None)], None, 1, 0).snapshot()
    assert from_native("float32", counted["fields"][0]).finite == 0


def test_merging_means_loses_no_digits() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=20_000)
    quality = Quality(duplicates=False)
    for part in np.array_split(values, 37):
        quality.update(part)
    assert only_field(quality).variance == pytest.approx(np.var(values), rel=1e-7)
