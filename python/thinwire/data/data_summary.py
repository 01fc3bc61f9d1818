"""What is known of records: all counters at one moment, to be merged, saved and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from thinwire.data.class_counts import ClassCounts
from thinwire.data.duplicates import Duplicates
from thinwire.data.field_summary import FieldSummary, empty_summary, from_native
from thinwire.data.record_fields import TEXT, Field
from thinwire.errors import InvalidArgument

_KINDS = ("numbers", "strings", "booleans", "nulls", "nested")
_Part = TypeVar("_Part", "Members", ClassCounts, Duplicates)


@dataclass(frozen=True)
class Member:
    """A member of JSON objects: how many lines have it as what, and its numbers and lengths of strings.

    Booleans are among the numbers as 0 and 1; nested are arrays and objects.
    """

    numbers: int
    strings: int
    booleans: int
    nulls: int
    nested: int
    values: FieldSummary
    lengths: FieldSummary

    @property
    def lines(self) -> int:
        """Lines that have it."""
        return self.numbers + self.strings + self.booleans + self.nulls + self.nested

    def merge(self, other: Member) -> Member:
        """Of the lines of both."""
        kinds = {kind: getattr(self, kind) + getattr(other, kind) for kind in _KINDS}
        return Member(
            values=self.values.merge(other.values), lengths=self.lengths.merge(other.lengths), **kinds
        )

    def kinds(self, lines: int) -> dict[str, int]:
        """How many of so many lines have it as what, or not at all."""
        return {kind: getattr(self, kind) for kind in _KINDS} | {"absent": lines - self.lines}

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        kinds = {kind: getattr(self, kind) for kind in _KINDS}
        return kinds | {"values": self.values.state(), "lengths": self.lengths.state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], name: str) -> Member:
        """What `state` gave. Raises InvalidArgument, which names the member, for anything else."""
        try:
            kinds = {kind: int(state[kind]) for kind in _KINDS}
            values, lengths = state["values"], state["lengths"]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"member {name!r} of a saved summary is damaged: {error!r}") from error
        return cls(
            values=FieldSummary.from_state(values, name),
            lengths=FieldSummary.from_state(lengths, name),
            **kinds,
        )


@dataclass(frozen=True)
class Members:
    """The members of JSON lines: of the at most `limit` names that come first in order, and of others.

    `malformed`: lines that are no JSON object. `others`: members whose name is not kept.
    """

    by_name: Mapping[bytes, Member]
    others: int
    malformed: int
    limit: int

    def merge(self, other: Members) -> Members:
        """Of the lines of both."""
        names, limit = sorted({*self.by_name, *other.by_name}), min(self.limit, other.limit)
        found = {name: _merged(self.by_name.get(name), other.by_name.get(name)) for name in names}
        others = self.others + other.others + sum(found[name].lines for name in names[limit:])
        kept = {name: found[name] for name in names[:limit]}
        return Members(kept, others, self.malformed + other.malformed, limit)

    def fields(self, records: int) -> dict[str, FieldSummary]:
        """A summary of the numbers, and one of the lengths, of every member that has some."""
        lines, found = records - self.malformed, {}
        for raw, member in self.by_name.items():
            name = raw.decode(errors="replace")
            for shown, summary in ((name, member.values), (f"len({name})", member.lengths)):
                if summary.values:
                    found[shown] = replace(summary, missing=lines - summary.values)
        return found

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        members = {name.hex(): member.state() for name, member in self.by_name.items()}
        return {"members": members, "others": self.others, "malformed": self.malformed, "limit": self.limit}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Members:
        """What `state` gave. Raises InvalidArgument for anything else."""
        try:
            names = {bytes.fromhex(name): member for name, member in sorted(state["members"].items())}
            numbers = int(state["others"]), int(state["malformed"]), int(state["limit"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgument(f"the members of a saved summary are damaged: {error!r}") from error
        members = {
            name: Member.from_state(member, name.decode(errors="replace")) for name, member in names.items()
        }
        return cls(members, *numbers)


def _merged(one: Member | None, other: Member | None) -> Member:
    if one is None or other is None:
        present = one or other
        assert present is not None
        return present
    return one.merge(other)


@dataclass(frozen=True)
class DataSummary:
    """Counters over records. `values`: of every field by its name, without those of JSON members."""

    records: int
    values: Mapping[str, FieldSummary]
    members: Members | None
    classes: ClassCounts | None
    duplicates: Duplicates | None

    @property
    def fields(self) -> dict[str, FieldSummary]:
        """Of every field by its name."""
        return {**self.values, **(self.members.fields(self.records) if self.members else {})}

    def merge(self, other: DataSummary) -> DataSummary:
        """Of the records of both. Raises InvalidArgument, which names what is unlike, unless they fit."""
        check_alike(self.values, other.values)
        return DataSummary(
            self.records + other.records,
            {name: summary.merge(other.values[name]) for name, summary in self.values.items()},
            _both(self.members, other.members, "members of JSON"),
            _both(self.classes, other.classes, "classes of a label"),
            _both(self.duplicates, other.duplicates, "duplicates"),
        )

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        return {
            "records": self.records,
            "fields": {name: summary.state() for name, summary in self.values.items()},
            "members": self.members and self.members.state(),
            "classes": self.classes and self.classes.state(),
            "duplicates": self.duplicates and self.duplicates.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DataSummary:
        """What `state` gave. Raises InvalidArgument for anything else."""
        try:
            records, fields = int(state["records"]), dict(state["fields"])
            members, classes, duplicates = (state[key] for key in ("members", "classes", "duplicates"))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"a saved summary is damaged: {error!r}") from error
        return cls(
            records,
            {name: FieldSummary.from_state(field, name) for name, field in fields.items()},
            None if members is None else Members.from_state(members),
            None if classes is None else ClassCounts.from_state(classes),
            None if duplicates is None else Duplicates.from_state(duplicates),
        )


def check_alike(one: Mapping[str, FieldSummary], other: Mapping[str, FieldSummary]) -> None:
    """Raise InvalidArgument, which names the field, unless both have the same fields of the same types."""
    for name in one.keys() ^ other.keys():
        raise InvalidArgument(f"field {name!r} is in one of the two summaries only")
    for name, summary in one.items():
        if summary.type != other[name].type:
            raise InvalidArgument(
                f"field {name!r} is {summary.type} in one summary, {other[name].type} in the other"
            )


def _both(one: _Part | None, other: _Part | None, what: str) -> _Part | None:
    if (one is None) != (other is None):
        raise InvalidArgument(f"one of the two summaries has no {what}")
    return one.merge(other) if one is not None and other is not None else None


def of_records(counted: Mapping[str, Any], fields: tuple[Field, ...], limits: tuple[int, int]) -> DataSummary:
    """What a native RecordSummary has counted; `limits`: of classes and of digests."""
    values = {
        field.shown_name: from_native(field.type, counters)
        for field, counters in zip(fields, counted["fields"], strict=True)
    }
    return DataSummary(counted["records"], values, None, *_label_and_copies(counted, limits))


def of_ragged(counted: Mapping[str, Any], names: int, limits: tuple[int, int]) -> DataSummary:
    """What a native RaggedSummary has counted; `names`: the limit of members' names, 0 without JSON."""
    values = {"len(record)": from_native(TEXT, counted["sizes"])}
    members = None
    if names:
        found = {name: _member(member) for name, member in counted["members"].items()}
        members = Members(found, counted["other_members"], counted["malformed"], names)
    return DataSummary(counted["records"], values, members, *_label_and_copies(counted, limits))


def _label_and_copies(
    counted: Mapping[str, Any], limits: tuple[int, int]
) -> tuple[ClassCounts | None, Duplicates | None]:
    classes, distinct = counted["classes"], counted["distinct"]
    return (
        None if classes is None else ClassCounts(classes[0], classes[1], limits[0]),
        None if distinct is None else Duplicates(limits[1], *distinct),
    )


def _member(counted: Mapping[str, Any]) -> Member:
    values, lengths = (
        empty_summary(type) if counted[key] is None else from_native(type, counted[key])
        for key, type in (("values", "number"), ("lengths", TEXT))
    )
    return Member(values=values, lengths=lengths, **{kind: counted[kind] for kind in _KINDS})
