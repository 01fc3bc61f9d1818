"""Rows of benchmarks: ratios, bars and what is said where something cannot be measured."""

from __future__ import annotations

import pytest

from thinwire.bench import _cases
from thinwire.bench._cases import Case, Effort, Measured

EFFORT = _cases.QUICK


def case(measured: Measured, bar: float, at_most: bool = False) -> Case:
    return Case("what", "baseline", bar, lambda effort: measured, at_most)


@pytest.mark.parametrize(("bar", "met"), [(1.9, True), (2.0, True), (2.1, False)])
def test_faster_is_more(bar: float, met: bool) -> None:
    row = case(Measured([1.0, 1.0, 5.0], [2.0, 2.0, 2.0], byte_count=10**9), bar).run(EFFORT)
    assert row.ratio
    assert row.ratio.median == 2.0
    assert row.met is met
    assert row.as_dict()["own"]["median"] == 1.0
    assert row.as_dict()["unit"] == "GB/s"


@pytest.mark.parametrize(("bar", "met"), [(0.74, False), (0.75, True), (0.76, True)])
def test_smaller_is_a_share(bar: float, met: bool) -> None:
    row = case(Measured([75e6], [100e6]), bar, at_most=True).run(EFFORT)
    assert row.met is met
    assert row.as_dict()["base"]["median"] == 100.0
    assert row.as_dict()["unit"] == "MB"


def test_what_cannot_be_measured_is_said() -> None:
    def measure(effort: Effort) -> Measured:
        _cases.need("no_such_module", "no-such-package")
        raise AssertionError

    row = Case("what", "baseline", 1.0, measure).run(EFFORT)
    assert row.met is None
    text = _cases.format_table([row])
    assert "not measured: what, baseline: pip install no-such-package" in text
    assert "met" not in text.splitlines()[2]


def test_a_missed_bar_shows() -> None:
    rows = [case(Measured([1.0], [1.0], 1), bar).run(EFFORT) for bar in (1.0, 1.1)]
    assert [line.split()[-1] for line in _cases.format_table(rows).splitlines()[2:]] == ["met", "MISSED"]


def test_a_row_without_a_bar_is_not_judged() -> None:
    row = Case("what", "baseline", None, lambda effort: Measured([1.0], [2.0], 1)).run(EFFORT)
    assert row.met is None
    assert _cases.format_table([row]).splitlines()[2].split()[-1] == "2"


def test_times_alternate() -> None:
    calls: list[str] = []
    measured = _cases.in_turn(lambda: calls.append("own"), lambda: calls.append("base"), 1, 2)
    assert calls == ["own", "base"] * 3  # the first pair warms up
    assert len(measured.own) == len(measured.base) == 2
