"""Whether data has changed: two summaries compared, field by field (docs/data/quality.md#drift)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinwire._table import columns
from thinwire.data.bins import RISING
from thinwire.data.class_counts import ClassCounts
from thinwire.data.data_summary import DataSummary, check_alike
from thinwire.data.field_summary import FieldSummary
from thinwire.data.quality import Quality
from thinwire.errors import DataDrift, InvalidArgument

PSI_LIMITS = (0.1, 0.25)
"""Above the first a change is moderate, above the second the data has drifted: the rule of thumb of credit
scoring (Lewis: An Introduction to Credit Scoring, 1994; Siddiqi: Credit Risk Scorecards, 2006)."""
KS_LIMIT = 0.1
"""A distance of distribution functions that matters; among many values smaller ones are significant too."""
ALPHA = 0.01
"""The chance at which samples of equal data exceed what is taken for noise."""
_GROUPS = 10  # of the reference's values, about equally many in each
_PRIOR = 0.5  # counts added to each group, so that an empty one gives no infinity

Verdict = Literal["stable", "moderate", "drifted", "unknown"]
_ORDER: tuple[Verdict, ...] = ("unknown", "stable", "moderate", "drifted")


@dataclass(frozen=True)
class FieldDrift:
    """How far one field is from the reference.

    `psi`: population stability index, with missing and non-finite values as groups of their own.
    `psi_noise`: what equal data of these sizes stays below, but for a chance of alpha. `distance`: Kolmogorov
    and Smirnov's statistic of the finite values, and `distance_noise` the same for it; of classes, both of
    the total variation. Numbers are NaN where there is nothing to compare; with no PSI, the verdict is
    "unknown".
    """

    name: str
    psi: float
    psi_noise: float
    distance: float
    distance_noise: float
    verdict: Verdict


@dataclass(frozen=True)
class Drift:
    """What `drift` found. `str()` is a table with a verdict, `as_dict()` plain values."""

    rows: tuple[FieldDrift, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all fields."""
        return max((row.verdict for row in self.rows), key=_ORDER.index, default="unknown")

    def raise_if(self, verdict: Verdict = "drifted") -> None:
        """Raise DataDrift, which names the fields, if some have this verdict or a worse one.

        Raises InvalidArgument for a verdict that is none.
        """
        if verdict not in _ORDER:
            raise InvalidArgument(f"verdict is {verdict!r}; it is one of {_ORDER}")
        bad = [row for row in self.rows if _ORDER.index(row.verdict) >= _ORDER.index(verdict)]
        if bad:
            named = ", ".join(f"{row.name} ({row.verdict}, PSI {row.psi:.3g})" for row in bad)
            raise DataDrift(f"the data differs from the reference in {named}")

    def as_dict(self) -> dict[str, Any]:
        """The numbers and the verdict of every field, and of all."""
        return {"verdict": self.verdict, "fields": {row.name: asdict(row) for row in self.rows}}

    def __str__(self) -> str:
        head = ("field", "verdict", "PSI", "by chance", "distance", "by chance")
        rows = [
            (row.name, row.verdict, *(_shown(getattr(row, key)) for key in _SHOWN))
            for row in sorted(self.rows, key=lambda row: -_ORDER.index(row.verdict))
        ]
        return f"{columns([head, *rows], left=(0, 1))}\n\n{_sentence(self)}"


_SHOWN = ("psi", "psi_noise", "distance", "distance_noise")


def _shown(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.3f}"


def _sentence(found: Drift) -> str:
    counts = {verdict: sum(row.verdict == verdict for row in found.rows) for verdict in _ORDER}
    if found.verdict == "unknown":
        return "verdict: unknown, there is nothing to compare"
    if found.verdict == "stable":
        return "verdict: stable, no field differs from the reference more than equal data may"
    named = ", ".join(row.name for row in found.rows if row.verdict == found.verdict)
    return f"verdict: {found.verdict}, in {counts[found.verdict]} of {len(found.rows)} fields: {named}"


def drift(
    reference: Quality | DataSummary,
    current: Quality | DataSummary,
    *,
    psi: tuple[float, float] = PSI_LIMITS,
    distance: float = KS_LIMIT,
    alpha: float = ALPHA,
) -> Drift:
    """Compare what was counted of `current` data with a `reference`, field by field.

    A field has drifted if its PSI exceeds psi[1] or its Kolmogorov-Smirnov distance `distance`, and changed
    moderately if its PSI exceeds psi[0]; in each case only by more than samples of equal data would, with a
    chance of `alpha`, were their values independent.

    Raises InvalidArgument, which names the field, where the two have counted other fields or dtypes.
    """
    if not 0 < alpha < 1:
        raise InvalidArgument(f"alpha is {alpha}; it lies between 0 and 1")
    one, other = _summary(reference), _summary(current)
    mine, others = one.fields, other.fields
    if one.members is None and other.members is None:
        check_alike(mine, others)
    limits = _Limits(psi, distance, alpha)
    rows = [_of_field(name, mine[name], others[name], limits) for name in mine if name in others]
    rows += [_only_in_one(name) for name in sorted(mine.keys() ^ others.keys())]
    if one.classes is not None and other.classes is not None:
        rows.append(_of_classes(one.classes, other.classes, limits))
    return Drift(tuple(rows))


@dataclass(frozen=True)
class _Limits:
    psi: tuple[float, float]
    distance: float
    alpha: float

    def row(self, name: str, groups: Groups, distance: float, distance_noise: float) -> FieldDrift:
        psi, noise = _stability_index(groups), self.psi_noise(groups)
        verdict: Verdict = "stable"
        if math.isnan(psi):
            verdict = "unknown"
        elif psi > max(self.psi[1], noise) or distance > max(self.distance, distance_noise):
            verdict = "drifted"
        elif psi > max(self.psi[0], noise):
            verdict = "moderate"
        return FieldDrift(name, psi, noise, distance, distance_noise, verdict)

    def psi_noise(self, groups: Groups) -> float:
        """PSI of equal data is about chi-squared (Yurdakul: Statistical Properties of Population Stability
        Index, 2018), whose quantile is Wilson and Hilferty's."""
        sizes = groups.sum(axis=1)
        if not sizes.all():
            return math.nan
        freedom = max(groups.shape[1] - 1, 1)
        spread = 2 / (9 * freedom)
        normal = NormalDist().inv_cdf(1 - self.alpha)
        quantile = freedom * (1 - spread + normal * math.sqrt(spread)) ** 3
        return float(quantile * (1 / sizes).sum())

    def distance_noise(self, one: int, other: int) -> float:
        """Smirnov's limit for two samples."""
        return math.sqrt(-math.log(self.alpha / 2) / 2 * (1 / one + 1 / other))

    def variation_noise(self, groups: Groups) -> float:
        """Of the total variation: a bound of its mean for equal data, and McDiarmid's of what is above it."""
        shares = groups.sum(axis=0) / groups.sum()
        mean = float(np.sqrt(shares * (1 - shares)).sum()) / 2
        spread = math.sqrt(float((1 / groups.sum(axis=1)).sum()))
        return spread * (mean + math.sqrt(-math.log(self.alpha) / 2))


Groups = NDArray[np.float64]
"""Counts of the reference and of the current data: (2, groups)."""


def _summary(given: Quality | DataSummary) -> DataSummary:
    if isinstance(given, Quality):
        return given.summary()
    if isinstance(given, DataSummary):
        return given
    raise InvalidArgument(f"drift compares two Quality objects; this is a {type(given).__name__}")


def _only_in_one(name: str) -> FieldDrift:
    """A JSON member that one of the two never has."""
    return FieldDrift(name, math.inf, 0.0, 1.0, 0.0, "drifted")


def _of_field(name: str, one: FieldSummary, other: FieldSummary, limits: _Limits) -> FieldDrift:
    counts = np.stack([one.bins[RISING], other.bins[RISING]]).astype(np.float64)
    rest = [[each.missing, each.nan, each.positive_infinity, each.negative_infinity] for each in (one, other)]
    groups = np.hstack([np.add.reduceat(counts, _group_starts(counts[0]), axis=1), rest])
    groups = groups[:, groups.any(axis=0)]
    distance = noise = math.nan
    if one.finite and other.finite:
        shares = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
        distance = float(np.abs(shares[0] - shares[1]).max())
        noise = limits.distance_noise(one.finite, other.finite)
    return limits.row(name, groups, distance, noise)


def _group_starts(counts: NDArray[np.float64]) -> NDArray[np.intp]:
    """Where groups of about equally many values start; a bin that is as good as a group is one."""
    below, total = np.cumsum(counts), counts.sum()
    ends = np.searchsorted(below, total * np.arange(1, _GROUPS) / _GROUPS) + 1
    (heavy,) = np.nonzero(counts >= max(total / _GROUPS, 1))
    starts = np.unique(np.concatenate([[0], ends, heavy, heavy + 1]))
    return starts[starts < len(counts)].astype(np.intp)


def _stability_index(groups: Groups) -> float:
    if not groups.size or not groups.sum(axis=1).all():
        return math.nan
    smooth = groups + _PRIOR
    one, other = smooth / smooth.sum(axis=1, keepdims=True)
    return float(((other - one) * np.log(other / one)).sum())


def _of_classes(one: ClassCounts, other: ClassCounts, limits: _Limits) -> FieldDrift:
    both = one.merge(other)
    pairs = [[counts.counts.get(key, 0) for key in both.counts] for counts in (one, other)]
    rest = [[counts.total - sum(pair)] for counts, pair in zip((one, other), pairs, strict=True)]
    groups = np.hstack([pairs, rest]).astype(np.float64)
    groups = groups[:, groups.any(axis=0)]
    sizes = groups.sum(axis=1, keepdims=True)
    distance = noise = math.nan
    if sizes.all():
        distance = float(np.abs(np.subtract(*(groups / sizes))).sum() / 2)
        noise = limits.variation_noise(groups)
    return limits.row("classes of the label", groups, distance, noise)


__all__ = ["ALPHA", "KS_LIMIT", "PSI_LIMITS", "Drift", "FieldDrift", "drift"]
