"""What counters of data refuse: fields, summaries and states that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data.counted import quality_of_records, some_records
from thinwire import _core
from thinwire.data import Quality
from thinwire.data.field_summary import from_native
from thinwire.errors import InvalidArgument


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
