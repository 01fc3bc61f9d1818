"""Rows of a benchmark: two things measured in turn, and a bar for their ratio; how rows are run and shown."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from thinwire.bench import _report
from thinwire.cli._progress import Progress

Action = Callable[[], object]


class LeftOut(Exception):
    """Why a case cannot be measured here, and what to do about it."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    mebibytes: int  # of random data that is cut and hashed
    file_mebibytes: int
    state_megabytes: int  # of a checkpoint


FULL = Effort(rounds=7, mebibytes=64, file_mebibytes=256, state_megabytes=400)
QUICK = Effort(rounds=3, mebibytes=32, file_mebibytes=64, state_megabytes=64)


class Unit(NamedTuple):
    """What a table shows samples in: their factor to it, and its name."""

    factor: float
    name: str


MEGABYTES, MILLISECONDS = Unit(1e-6, "MB"), Unit(1e3, "ms")


@dataclass(frozen=True)
class Measured:
    """Samples of thinwire and the baseline, taken in turn: seconds for `byte_count` bytes, or else what has
    the unit `plain`: bytes or seconds."""

    own: Sequence[float]
    base: Sequence[float]
    byte_count: int | None = None
    plain: Unit = MEGABYTES

    def ratios(self, at_most: bool) -> list[float]:
        """Own over baseline where it has to be small, baseline over own where it has to be large."""
        pairs = list(zip(self.own, self.base, strict=True))
        return [own / base if at_most else base / own for own, base in pairs]

    def shown(self, samples: Sequence[float]) -> list[float]:
        """Samples in the unit of the table."""
        if self.byte_count is None:
            return [each * self.plain.factor for each in samples]
        return [self.byte_count / each / 1e9 for each in samples]

    @property
    def unit(self) -> str:
        """The unit of the table."""
        return self.plain.name if self.byte_count is None else "GB/s"


@dataclass(frozen=True)
class Case:
    """Something to measure. Its ratio must be `bar` or more, with `at_most` no more; None asks nothing.

    `measure` takes the benchmark's effort.
    """

    what: str
    baseline: str
    bar: float | None
    measure: Callable[[Any], Measured]
    at_most: bool = False

    def run(self, effort: Any) -> Row:
        """Measure it, or say why that is not possible here."""
        try:
            return Row(self, self.measure(effort))
        except LeftOut as reason:
            return Row(self, None, str(reason))


@dataclass(frozen=True)
class Row:
    """What a case came to."""

    case: Case
    measured: Measured | None
    left_out: str = ""

    @property
    def ratio(self) -> _report.Spread | None:
        """The ratio's spread over the rounds."""
        return _report.spread(self.measured.ratios(self.case.at_most)) if self.measured else None

    @property
    def met(self) -> bool | None:
        """Whether the median ratio reaches the bar; None where nothing was measured, or there is no bar."""
        bar = self.case.bar
        if self.ratio is None or bar is None:
            return None
        median = self.ratio.median
        return median <= bar if self.case.at_most else median >= bar

    def as_dict(self) -> dict[str, Any]:
        """The row, ready for JSON."""
        case, measured = self.case, self.measured
        facts: dict[str, Any] = {"what": case.what, "baseline": case.baseline, "bar": case.bar}
        facts |= {"at_most": case.at_most, "met": self.met, "left_out": self.left_out}
        if measured and self.ratio:
            facts |= {"unit": measured.unit, "bytes": measured.byte_count, "ratio": self.ratio.as_dict()}
            facts["own"] = _report.spread(measured.shown(measured.own)).as_dict()
            facts["base"] = _report.spread(measured.shown(measured.base)).as_dict()
        return facts


def run(cases: Sequence[Case], effort: Any) -> list[Row]:
    """Measure the cases one after the other, and say which on the progress line."""
    progress = Progress()
    rows = []
    for case in cases:
        progress.show(f"{case.what}, {case.baseline}")
        rows.append(case.run(effort))
    progress.clear()
    return rows


def add_only(parser: argparse.ArgumentParser) -> None:
    """The option that chooses cases: what `matching` takes."""
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose name or baseline has such text")


def matching(cases: Sequence[Case], only: Sequence[str] | None) -> list[Case]:
    """The cases whose name or baseline has one of the texts; all of them without texts."""
    texts = [text.lower() for text in only or [""]]
    return [case for case in cases if any(text in f"{case.what} {case.baseline}".lower() for text in texts)]


def format_table(rows: list[Row]) -> str:
    """The rows as text; below them, why some have no figures."""
    header = ["what", "baseline", "own", "baseline's", "ratio", "quartiles", "bar", ""]
    text: str = _report.table(header, [_cells(row) for row in rows])
    notes = [
        f"not measured: {row.case.what}, {row.case.baseline}: {row.left_out}" for row in rows if row.left_out
    ]
    return "\n".join([text, *([""] if notes else []), *notes])


def _cells(row: Row) -> list[str]:
    case, measured, ratio = row.case, row.measured, row.ratio
    bar = "" if case.bar is None else f"{'at most ' if case.at_most else ''}{case.bar:g}"
    if measured is None or ratio is None:
        return [case.what, case.baseline, "", "", "", "", bar, "-"]
    own, base = (
        f"{_report.spread(measured.shown(samples)).median:.2f} {measured.unit}"
        for samples in (measured.own, measured.base)
    )
    quartiles = f"{ratio.low:.2f}-{ratio.high:.2f}" if ratio.count > 1 else ""
    verdict = _report.verdict(row.met)
    return [case.what, case.baseline, own, base, f"{ratio.median:.3g}", quartiles, bar, verdict]


def need(module: str, package: str = "") -> None:
    """Raise LeftOut where a module is not installed."""
    if find_spec(module) is None:
        raise LeftOut(f"pip install {package or module}")


def in_turn(own: Action, base: Action, byte_count: int, rounds: int) -> Measured:
    """Time both in turn, after one call each that touches memory which is new."""
    own()
    base()
    pairs = [(seconds(own), seconds(base)) for _ in range(rounds)]
    return Measured([own for own, _ in pairs], [base for _, base in pairs], byte_count)


def seconds(action: Action) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
