"""What a Quality counts, and which two of them count the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from thinwire.data.class_counts import ClassCounts
from thinwire.data.data_summary import DataSummary, Members
from thinwire.data.duplicates import Duplicates
from thinwire.data.field_summary import empty_summary
from thinwire.data.record_fields import TEXT, Field, RecordFields
from thinwire.errors import InvalidArgument

RECORDS, RAGGED, JSONL = "records", "ragged", "jsonl"
DISTINCT = 2**20
"""Digests that are kept unless told otherwise: at most 48 MiB."""


@dataclass(frozen=True)
class Settings:
    """The arguments of a Quality. `kind` is None until the first records say it; `distinct` 0 is none."""

    kind: str | None
    layout: RecordFields | None
    label: str | None
    classes: int
    names: int
    distinct: int
    missing: Mapping[str, float]

    @classmethod
    def make(
        cls,
        fields: Any,
        label: str | None,
        classes: int,
        names: int,
        duplicates: bool | int,
        missing: Mapping[str, float] | None,
    ) -> Settings:
        """Settings of checked arguments. Raises InvalidArgument as Quality does."""
        for name, number in (("classes", classes), ("names", names)):
            if not isinstance(number, int) or number < 1:
                raise InvalidArgument(f"{name} is {number!r}; pass an integer of 1 or more")
        if not isinstance(duplicates, int) or duplicates < 0:
            raise InvalidArgument(f"duplicates is {duplicates!r}; pass True, False or a number of digests")
        distinct = DISTINCT if duplicates is True else int(duplicates)
        made = cls(None, None, label, classes, names, distinct, dict(missing or {}))
        if fields is None:
            return made
        if isinstance(fields, str) and fields in (RAGGED, JSONL):
            return made._of_kind(fields)
        return made.or_records(fields)

    def _of_kind(self, kind: str) -> Settings:
        if self.missing:
            raise InvalidArgument(f"missing is for fields of numbers, which {kind} records do not have")
        if kind == RAGGED and self.label is not None:
            raise InvalidArgument(f"label is {self.label!r}, but ragged records have no fields")
        return replace(self, kind=kind)

    def or_records(self, dtype: Any) -> Settings:
        """These, or, where nobody has said what a record is, those of a dtype."""
        if self.kind is not None:
            return self
        layout = RecordFields.of(dtype).with_missing(dict(self.missing))
        if self.label is not None:
            field = layout.fields[layout.index(self.label)]
            if "float" in field.type:
                raise InvalidArgument(f"label {self.label!r} is {field.type}; classes are integers or bytes")
        return replace(self, kind=RECORDS, layout=layout)

    def or_ragged(self) -> Settings:
        """These, or those of ragged records. Raises InvalidArgument where records are of one size."""
        if self.kind == RECORDS:
            raise InvalidArgument("fields is a dtype: give records of one size to update or update_rows")
        return self if self.kind else self._of_kind(RAGGED)

    def layout_of_rows(self) -> RecordFields:
        """The fields of records of one size. Raises InvalidArgument where nobody has said them."""
        if self.layout is None:
            raise InvalidArgument(f"fields is {self.kind}; records of one size need their dtype there")
        return self.layout

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise InvalidArgument, which names a field, unless arrays of this dtype hold such records."""
        expected, given = self.layout_of_rows(), RecordFields.of(dtype)
        if given.bytes is None:
            types = {field.type for field in given.fields}
            unlike = [field for field in expected.fields if {field.type} != types or len(expected.fields) > 1]
        else:
            found = {field.name: field for field in given.fields}
            unlike = [
                field for field in expected.fields if found.get(field.name) != replace(field, missing=None)
            ]
        for field in unlike:
            raise InvalidArgument(
                f"field {field.name!r} is to be {field.type} at byte {field.offset}, not so in {dtype}"
            )

    @property
    def kept_names(self) -> int:
        """Of JSON members; 0 where records are not JSON."""
        return self.names if self.kind == JSONL else 0

    def empty_summary(self) -> DataSummary:
        """That of no records."""
        values = {"len(record)": empty_summary(TEXT)}
        if self.layout is not None:
            values = {field.shown_name: empty_summary(field.type) for field in self.layout.fields}
        digests, times = np.zeros((0, 16), np.uint8), np.zeros(0, np.uint64)
        return DataSummary(
            0,
            values,
            Members({}, 0, 0, self.names) if self.kind == JSONL else None,
            ClassCounts({}, 0, self.classes) if self.label is not None else None,
            Duplicates(self.distinct, 0, digests, times) if self.distinct else None,
        )

    def agreed(self, other: Settings) -> Settings:
        """Those of both. Raises InvalidArgument, which names what is unlike, unless they count the same."""
        if self.kind is None or other.kind is None:
            raise InvalidArgument(
                "one of the two has counted nothing and does not know its fields; name them"
            )
        if self.kind != other.kind:
            raise InvalidArgument(f"one counts {self.kind}, the other {other.kind}")
        if self.label != other.label:
            raise InvalidArgument(f"label is {self.label!r} in one, {other.label!r} in the other")
        if self.missing != other.missing:
            raise InvalidArgument(f"missing is {self.missing} in one, {other.missing} in the other")
        return self

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Any) -> Settings:
        """What `state` gave. Raises InvalidArgument for anything else."""
        try:
            layout = state["layout"]
            if layout is not None:
                fields = tuple(Field(**field) for field in layout["fields"])
                layout = RecordFields(fields, layout["bytes"])
            return cls(**{**state, "layout": layout})
        except (KeyError, TypeError) as error:
            raise InvalidArgument(f"the settings of a saved summary are damaged: {error!r}") from error
