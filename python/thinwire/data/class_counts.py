"""How often each class occurs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinwire.errors import InvalidArgument


@dataclass(frozen=True)
class ClassCounts:
    """Counts of the at most `limit` classes that come first in order, and of all `others` together.

    `counts`: by key, bytes whose order is that of the classes. Which classes are kept depends on the labels
    alone, and not on their order or on the rank that met them; what is counted of them is exact.
    """

    counts: Mapping[bytes, int]
    others: int
    limit: int

    @property
    def total(self) -> int:
        """Labels of all classes."""
        return sum(self.counts.values()) + self.others

    def merge(self, other: ClassCounts) -> ClassCounts:
        """Those of both; where their limits differ, under the smaller one."""
        keys, limit = sorted({*self.counts, *other.counts}), min(self.limit, other.limit)
        kept = {key: self.counts.get(key, 0) + other.counts.get(key, 0) for key in keys[:limit]}
        return ClassCounts(kept, self.total + other.total - sum(kept.values()), limit)

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        counts = {key.hex(): count for key, count in self.counts.items()}
        return {"counts": counts, "others": self.others, "limit": self.limit}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ClassCounts:
        """What `state` gave. Raises InvalidArgument for anything else."""
        try:
            counts = {bytes.fromhex(key): int(count) for key, count in sorted(state["counts"].items())}
            return cls(counts, int(state["others"]), int(state["limit"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgument(f"the classes of a saved summary are damaged: {error!r}") from error
