"""The quality of data, counted while it is read (docs/data/quality.md)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from thinwire import _core
from thinwire._buffers import raw_bytes
from thinwire.data.data_summary import DataSummary, of_ragged, of_records
from thinwire.data.duplicates import Duplicates
from thinwire.data.field_summary import FieldSummary
from thinwire.data.quality_settings import Settings
from thinwire.data.quality_table import class_names, table
from thinwire.data.ragged import ends_of
from thinwire.data.record_fields import RecordFields
from thinwire.errors import InvalidArgument

STATE_VERSION = 1
_VERSION_KEY = "thinwire_quality"


class Quality:
    """Counters over records, in one pass, in native code.

    `fields`: what a record is. A NumPy dtype: records of one size; a structured dtype has its fields, a plain
    one (or "bfloat16") fills the whole record with its values. "ragged": bytes of any length. "jsonl": a JSON
    object each. None: as the first records given. Numbers of all NumPy's integer and floating-point types
    and bool are counted as such, of bytes (and of strings in JSON) the lengths.

    `label`: the field, of integers or bytes, or the JSON member whose values are classes; `classes` of them
    are counted on their own, those that come first in order (numbers by value, texts by their bytes), and the
    others together. `names`: so many JSON members are kept, those whose names come first in the order of
    bytes. `duplicates`: look for exact copies of records: True keeps the digests of up to 2^20 records and
    samples beyond that; a number keeps so many; False does not look. `missing`: numbers that stand for no
    value, by field: `{"age": -1}`.

    Counts do not depend on the order of records and merge exactly over ranks; mean and variance do so up to
    rounding. A pass over the same data again counts every record as a copy: take one Quality an epoch.

    Threads may update at once, as readers do that share it: none waits for longer than another's batch takes.
    A pickled copy has the same counts, and goes on by itself.

    Raises InvalidArgument, which names the field, for dtypes that cannot be counted, for records that do not
    fit, and for a label that is no field.
    """

    def __init__(
        self,
        fields: Any = None,
        *,
        label: str | None = None,
        classes: int = 1000,
        names: int = 256,
        duplicates: bool | int = True,
        missing: Mapping[str, float] | None = None,
    ) -> None:
        self._settings = Settings.make(fields, label, classes, names, duplicates, missing)
        self._rows: _core.RecordSummary | None = None
        self._record_bytes = 0
        self._ragged: _core.RaggedSummary | None = None
        self._before: DataSummary | None = None  # of what this object has not seen itself
        self._lock = threading.Lock()  # of these references, not while records are counted

    def __reduce__(self) -> tuple[Any, ...]:
        return Quality.from_state, (self.state(),)

    def update(self, records: Any) -> None:
        """Count records: an array or tensor in host memory whose first dimension counts them, or a list of
        bytes, where records are ragged or JSON lines.

        Raises InvalidArgument for an array of another dtype than `fields`.
        """
        if isinstance(records, (list, tuple)):
            self._update_texts([bytes(record) for record in records])
            return
        array = records if hasattr(records, "data_ptr") else np.ascontiguousarray(records)
        dtype = _dtype_of(array)
        with self._lock:
            self._settings = self._settings.or_records(dtype)
        self._settings.check_dtype(dtype)
        view = raw_bytes(array, "records")
        if len(array):
            self.update_rows(view.address, len(array), view.count // len(array))

    def update_rows(self, address: int, count: int, stride: int) -> None:
        """Count `count` records in memory, the first at `address`, `stride` bytes from one to the next.

        Raises InvalidArgument where `stride` does not fit the records.
        """
        with self._lock:
            rows = self._counter_of_rows(stride)
        rows.add(address, count, stride)

    def update_ragged(self, address: int, offsets: Any) -> None:
        """Count records that follow each other from `address` on: record i lies from byte `offsets[i]` to
        `offsets[i + 1]`; int64 of shape (records + 1,). The end of a JSON line is no part of it.

        Raises InvalidArgument where offsets fall.
        """
        with self._lock:
            ragged = self._counter_of_ragged()
        ragged.add(address, np.ascontiguousarray(offsets, np.int64))

    def _update_texts(self, records: list[bytes]) -> None:
        view = raw_bytes(b"".join(records), "records")
        self.update_ragged(view.address, ends_of([len(record) for record in records]))

    def _counter_of_rows(self, stride: int) -> _core.RecordSummary:
        layout = self._settings.layout_of_rows()
        if self._rows is None:
            self._rows, self._record_bytes = self._make_rows(layout.filling(stride)), stride
        elif layout.bytes is None and stride != self._record_bytes:
            raise InvalidArgument(f"records had {self._record_bytes} bytes before, now they have {stride}")
        return self._rows

    def _counter_of_ragged(self) -> _core.RaggedSummary:
        self._settings = s = self._settings.or_ragged()
        if self._ragged is None:
            self._ragged = _core.RaggedSummary(s.kept_names, s.label or "", s.classes, s.distinct)
        return self._ragged

    def _make_rows(self, layout: RecordFields) -> _core.RecordSummary:
        assert layout.bytes is not None
        fields = [(field.type, field.offset, field.count or 0, field.missing) for field in layout.fields]
        label = None if self._settings.label is None else layout.index(self._settings.label)
        return _core.RecordSummary(
            layout.bytes, fields, label, self._settings.classes, self._settings.distinct
        )

    def summary(self) -> DataSummary:
        """All counters as they are now."""
        return self._settings_and_summary()[1]

    def _settings_and_summary(self) -> tuple[Settings, DataSummary]:
        with self._lock:  # a thread may be about to make them
            s, rows, ragged, before = self._settings, self._rows, self._ragged, self._before
        counted = _counted(s, rows, ragged)
        return s, counted if before is None else before.merge(counted)

    @property
    def records(self) -> int:
        """How many were counted."""
        return self.summary().records

    @property
    def fields(self) -> dict[str, FieldSummary]:
        """The summary of every field by its name; of texts it is called "len(name)"."""
        return self.summary().fields

    @property
    def classes(self) -> dict[Any, int] | None:
        """How often each class occurs: by the integer, the bytes or the JSON text; None without a label."""
        summary = self.summary()
        return None if summary.classes is None else class_names(summary.classes, self._settings)

    @property
    def duplicates(self) -> Duplicates | None:
        """Copies among the records; None where nobody looked."""
        return self.summary().duplicates

    def merge(self, other: Quality) -> Quality:
        """Add what `other` has counted, of another rank or shard, and return this.

        Raises InvalidArgument, which names the field, for a Quality of other fields.
        """
        if not isinstance(other, Quality):
            raise InvalidArgument(f"a Quality merges with another, not with a {type(other).__name__}")
        theirs = other.summary()
        with self._lock:
            self._settings = self._settings.agreed(other._settings)
            before = self._settings.empty_summary() if self._before is None else self._before
            self._before = before.merge(theirs)
        return self

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold: to be saved, or gathered from all ranks."""
        settings, summary = self._settings_and_summary()
        return {_VERSION_KEY: STATE_VERSION, "settings": settings.state(), **summary.state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Quality:
        """What `state` gave; it can go on counting.

        Raises InvalidArgument for another version, and for damage that shows.
        """
        version = state.get(_VERSION_KEY) if isinstance(state, Mapping) else None
        if version != STATE_VERSION:
            raise InvalidArgument(
                f"this is a summary of version {version}, or none; this release reads version {STATE_VERSION}"
            )
        made = cls()
        made._settings = Settings.from_state(state.get("settings"))
        before = DataSummary.from_state(state)
        if made._settings.kind is not None:  # else nothing was counted
            made._before = before
        return made

    def as_dict(self) -> dict[str, Any]:
        """What the table shows and more, as plain values."""
        summary = self.summary()
        copies, members = summary.duplicates, summary.members
        return {
            "records": summary.records,
            "fields": {name: field.as_dict() for name, field in summary.fields.items()},
            "classes": summary.classes and class_names(summary.classes, self._settings),
            "other_classes": summary.classes and summary.classes.others,
            "duplicates": copies and copies.count,
            "duplicates_are_exact": copies and copies.is_exact,
            "malformed": members and members.malformed,
            "members": members
            and {
                name.decode(errors="replace"): member.kinds(summary.records - members.malformed)
                for name, member in members.by_name.items()
            },
        }

    def __str__(self) -> str:
        """A table for a terminal."""
        return table(self.summary(), self._settings)


def _counted(
    settings: Settings, rows: _core.RecordSummary | None, ragged: _core.RaggedSummary | None
) -> DataSummary:
    limits = settings.classes, settings.distinct
    if rows is not None:
        return of_records(rows.snapshot(), settings.layout_of_rows().fields, limits)
    if ragged is not None:
        return of_ragged(ragged.snapshot(), settings.kept_names, limits)
    return settings.empty_summary()


def _dtype_of(array: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] | str = array.dtype
    if isinstance(dtype, np.dtype):
        return dtype
    name = str(dtype).removeprefix("torch.")
    return np.dtype("V2" if name == "bfloat16" else name)
