"""How many records are exact copies of others."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.errors import InvalidArgument

_DIGEST_BYTES = 16
_MOST_LEVEL = 64


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The XXH3-128 digests of records, at most `limit` of them: all those that begin with `level` zero bits.

    `digests`: uint8 of shape (count, 16). `times`: how often each occurred, uint64 of shape (count,). Level 0
    is exact. Above, a record is kept with chance 2^-level, whatever its copies are, so that the counts times
    2^level estimate without bias what all records would give. Which digests are kept depends on the records
    alone, and not on their order or on the rank that met them.

    Flajolet: On adaptive sampling (by Wegman), Computing 43, 1990; Gibbons: Distinct sampling, VLDB 2001.
    """

    limit: int
    level: int
    digests: NDArray[np.uint8]
    times: NDArray[np.uint64]

    @property
    def is_exact(self) -> bool:
        """Whether every record was compared; otherwise `count` is an estimate."""
        return self.level == 0

    @property
    def count(self) -> int:
        """Records that are copies of one before them."""
        return (int(self.times.sum()) - len(self.times)) << self.level

    def merge(self, other: Duplicates) -> Duplicates:
        """Those among the records of both; where their limits differ, under the smaller one."""
        keys = np.concatenate([self._keys(), other._keys()])
        kept, places = np.unique(keys, return_inverse=True)
        times = np.zeros(len(kept), np.uint64)
        np.add.at(times, places.reshape(-1), np.concatenate([self.times, other.times]))
        digests = kept.view(np.uint8).reshape(-1, _DIGEST_BYTES)
        limit, level = min(self.limit, other.limit), max(self.level, other.level)
        return Duplicates(limit, level, digests, times)._thinned()

    def _keys(self) -> NDArray[np.void]:
        return np.ascontiguousarray(self.digests).view(f"V{_DIGEST_BYTES}").reshape(-1)

    def _thinned(self) -> Duplicates:
        """Those of the first level at which no more than the limit are left."""
        heads = np.ascontiguousarray(self.digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
        level, kept = self.level, _begin_with_zeros(heads, self.level)
        while kept.sum() > self.limit:
            level += 1
            kept = _begin_with_zeros(heads, level)
        return Duplicates(self.limit, level, self.digests[kept], self.times[kept])

    def state(self) -> dict[str, Any]:
        """Everything, in what JSON can hold."""
        return {
            "limit": self.limit,
            "level": self.level,
            "digests": base64.b64encode(self.digests.tobytes()).decode(),
            "times": self.times.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Duplicates:
        """What `state` gave. Raises InvalidArgument for anything else."""
        try:
            raw = np.frombuffer(base64.b64decode(state["digests"], validate=True), np.uint8)
            times = np.asarray(state["times"], np.uint64).reshape(-1)
            digests = raw.reshape(len(times), _DIGEST_BYTES)
            found = cls(int(state["limit"]), int(state["level"]), digests, times)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument(f"the digests of a saved summary are damaged: {error!r}") from error
        if not 0 <= found.level <= _MOST_LEVEL or len(times) > found.limit or not times.all():
            raise InvalidArgument("the digests of a saved summary are damaged: their numbers contradict")
        return found


def _begin_with_zeros(heads: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    return heads < np.uint64(2 ** (64 - bits)) if bits else np.ones(len(heads), np.bool_)
