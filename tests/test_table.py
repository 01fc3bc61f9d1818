"""Tables of text: columns are aligned, and lines end with their last character."""

from __future__ import annotations

from thinwire._table import columns

ROWS = [("name", "size"), ("a", "1"), ("longer name", ""), ("b", "12345")]


def test_the_first_column_is_flush_left_and_numbers_are_flush_right() -> None:
    assert columns(ROWS).splitlines() == [
        "name          size",
        "a                1",
        "longer name",
        "b            12345",
    ]


def test_any_columns_can_be_flush_left() -> None:
    assert columns(ROWS[1:2] + ROWS[3:], left=(1,)).splitlines() == ["a  1", "b  12345"]
    assert columns(ROWS[:2], left=()).splitlines() == ["name  size", "   a     1"]
