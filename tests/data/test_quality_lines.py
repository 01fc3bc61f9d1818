"""Counters of records that differ in size, and of the members of JSON lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.counted import only_field
from thinwire.data import Quality

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
