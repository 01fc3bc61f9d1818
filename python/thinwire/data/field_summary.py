"""What is known of the values of one field. Two summaries of parts of data are that of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from thinwire.data.bins import BINS, MIDDLES, RISING, Counts
from thinwire.errors import InvalidArgument

_COUNTS = ("values", "missing", "nan", "positive_infinity", "negative_infinity", "zeros", "finite")
_NUMBERS = ("least", "greatest", "mean", "squares")


@dataclass(frozen=True, eq=False)
class FieldSummary:
    """Counters of one field.

    `type`: NumPy's name of the values' dtype, "number" in JSON, or "bytes": then the values are lengths of
    texts, in bytes. `values`: how many there are; `missing` ones are not among them. `nan`,
    `positive_infinity`, `negative_infinity`: how many of the values are that; `zeros`: of either sign;
    `finite`: all but NaN and infinities. `least`, `greatest` (inf and -inf where there is none), `mean`,
    `squares` (the sum of squared deviations from the mean) and `bins` (uint64 of shape (bins.BINS,)) are of
    the finite values; integers beyond 2^53 are rounded, and sums beyond fp64 give a mean that is not finite.
    """

    type: str
    values: int
    missing: int
    nan: int
    positive_infinity: int
    negative_infinity: int
    zeros: int
    least: float
    greatest: float
    finite: int
    mean: float
    squares: float
    bins: Counts

    @property
    def variance(self) -> float:
        """Of the finite values, as numpy.var: divided by their number; NaN where there is none."""
        return self.squares / self.finite if self.finite else math.nan

    @property
    def is_integer(self) -> bool:
        """Whether the values are whole numbers by their type."""
        return self.type in ("bool", "bytes") or self.type.lstrip("u").startswith("int")

    def quantile(self, share: float) -> float:
        """The finite value that `share` of them, from 0 to 1, are at most; NaN where there is none.

        Within 2^-5 of the value, relative, or within 2^-130; 0 and 1 are the least and the greatest exactly,
        integers up to 31 as well. Beyond fp32's range, its greatest value stands for all.

        Raises InvalidArgument for another share.
        """
        if not 0 <= share <= 1:
            raise InvalidArgument(f"share is {share}; it goes from 0 to 1")
        if not self.finite:
            return math.nan
        if share in (0, 1):
            return self.greatest if share else self.least
        below = np.cumsum(self.bins[RISING])
        middle = float(MIDDLES[np.searchsorted(below, max(1, math.ceil(share * self.finite)))])
        if self.is_integer:
            middle = float(math.trunc(middle))
        return min(max(middle, self.least), self.greatest)

    def merge(self, other: FieldSummary) -> FieldSummary:
        """That of the values of both; counts are exact, mean and variance up to rounding."""
        finite = self.finite + other.finite
        share = other.finite / finite if finite else 0.0
        apart = other.mean - self.mean
        return FieldSummary(
            type=self.type,
            least=min(self.least, other.least),
            greatest=max(self.greatest, other.greatest),
            mean=self.mean + apart * share,
            squares=self.squares + other.squares + apart * apart * self.finite * share,
            bins=self.bins + other.bins,
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers; None where there are no finite values."""
        shown = {"least": self.least, "greatest": self.greatest, "mean": self.mean, "variance": self.variance}
        shown |= {f"quantile_{share}": self.quantile(share) for share in (0.01, 0.25, 0.5, 0.75, 0.99)}
        return {
            "type": self.type,
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: value if self.finite else None for name, value in shown.items()},
        }

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold; bins as their numbers and counts."""
        (used,) = np.nonzero(self.bins)
        return {
            "type": self.type,
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: repr(getattr(self, name)) for name in _NUMBERS},  # JSON has no infinities
            "bins": [used.tolist(), self.bins[used].tolist()],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], name: str) -> FieldSummary:
        """What `state` gave. Raises InvalidArgument, which names the field, for anything else."""
        try:
            used, counts = state["bins"]
            bins = np.zeros(BINS, np.uint64)
            bins[np.asarray(used, np.intp)] = np.asarray(counts, np.uint64)
            known: dict[str, Any] = {key: int(state[key]) for key in _COUNTS}
            known |= {key: float(state[key]) for key in _NUMBERS}
            found = cls(type=str(state["type"]), bins=bins, **known)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InvalidArgument(f"field {name!r} of a saved summary is damaged: {error!r}") from error
        if int(bins.sum()) != found.finite or min(known[key] for key in _COUNTS) < 0:
            raise InvalidArgument(f"field {name!r} of a saved summary is damaged: its counts contradict")
        return found


def empty_summary(type: str) -> FieldSummary:
    """A summary of no values."""
    numbers: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    return FieldSummary(
        type=type,
        least=math.inf,
        greatest=-math.inf,
        mean=0.0,
        squares=0.0,
        bins=np.zeros(BINS, np.uint64),
        **numbers,
    )


def from_native(type: str, counters: Mapping[str, Any]) -> FieldSummary:
    """A summary of what the native core has counted."""
    return FieldSummary(type, **{field.name: counters[field.name] for field in fields(FieldSummary)[1:]})
