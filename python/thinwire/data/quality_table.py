"""A Quality as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from thinwire._table import columns
from thinwire.data.class_counts import ClassCounts
from thinwire.data.data_summary import DataSummary
from thinwire.data.field_summary import FieldSummary
from thinwire.data.quality_settings import JSONL, Settings

_SHOWN_CLASSES = 10
_HEAD = (
    *("field", "type", "values", "missing", "nan", "inf", "zeros"),
    *("least", "1 %", "median", "99 %", "greatest", "mean", "std"),
)


def table(summary: DataSummary, settings: Settings) -> str:
    """Lines about the records, a row a field, and the classes."""
    parts = ["\n".join(_about_records(summary))]
    if summary.fields:
        rows = [_row(name, field) for name, field in summary.fields.items()]
        parts.append(columns([_HEAD, *rows], left=(0, 1)))
    if summary.classes is not None:
        parts.append("\n".join(_about_classes(summary.classes, settings)))
    return "\n\n".join(parts)


def class_names(classes: ClassCounts, settings: Settings) -> dict[Any, int]:
    """Counts by what the classes are called: integers, bytes, or the text of JSON values."""
    if settings.kind == JSONL:
        return {key.decode(errors="replace"): count for key, count in classes.counts.items()}
    layout = settings.layout_of_rows()
    field = layout.fields[layout.index(settings.label or "")]
    if field.is_text:
        return dict(classes.counts)
    flipped = 2**63 if field.type.startswith("int") else 0
    return {int.from_bytes(key, "big") - flipped: count for key, count in classes.counts.items()}


def _about_records(summary: DataSummary) -> Iterable[str]:
    yield f"records     {summary.records:,}"
    if summary.members is not None:
        yield f"malformed   {summary.members.malformed:,}"
        if summary.members.others:
            yield f"not kept    {summary.members.others:,} members of further names"
    copies = summary.duplicates
    if copies is not None:
        how = "exact" if copies.is_exact else f"estimated from 1 in {2**copies.level:,} records"
        yield f"duplicates  {copies.count:,}{_percent(copies.count, summary.records)}, {how}"


def _row(name: str, field: FieldSummary) -> list[str]:
    counts = (field.missing, field.nan, field.positive_infinity + field.negative_infinity, field.zeros)
    numbers = [field.quantile(share) for share in (0, 0.01, 0.5, 0.99, 1)]
    numbers += [field.mean, field.variance**0.5]
    shown = [f"{number:.5g}" for number in numbers] if field.finite else ["-"] * len(numbers)
    return [name, field.type, f"{field.values:,}", *(f"{count:,}" for count in counts), *shown]


def _about_classes(classes: ClassCounts, settings: Settings) -> Iterable[str]:
    names = class_names(classes, settings)
    first = sorted(names.items(), key=lambda item: -item[1])
    yield f"classes of {settings.label}: {len(names):,}"
    for name, count in first[:_SHOWN_CLASSES]:
        yield f"  {name!s:<12}  {count:>12,}{_percent(count, classes.total)}"
    rest = sum(count for _, count in first[_SHOWN_CLASSES:])
    if rest:
        yield f"  {len(first) - _SHOWN_CLASSES:,} smaller ones  {rest:,}{_percent(rest, classes.total)}"
    if classes.others:
        yield f"  others        {classes.others:>12,}{_percent(classes.others, classes.total)}"


def _percent(count: int, total: int) -> str:
    return f" ({count / total:.2%})" if total else ""
