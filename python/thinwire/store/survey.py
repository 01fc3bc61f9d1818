"""Which packs a store can do without: arithmetic on what its versions need and what its index says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint8]
"""Chunk ids, uint8[n, 32]."""

ID_BYTES = 32
_VOID = np.dtype((np.void, ID_BYTES))


class Census(NamedTuple):
    """What the index says: one row a place, that is, a chunk in a pack."""

    packs: Sequence[bytes]  # ids, each once
    chunks: Ids  # uint8[n, 32]
    pack_of: NDArray[np.int64]  # position in packs, [n]
    sizes: NDArray[np.int64]  # stored bytes, [n]


class Plan(NamedTuple):
    """What a collector should do: copy `chunks`, which lie in packs of `sources`, then delete `packs`."""

    chunks: Ids
    sources: list[bytes]
    packs: set[bytes]


class Survey:
    """`live`: the ids that versions need. `present`: the packs that are there. `doomed`: the packs that other
    collectors may delete at any moment, so that nothing may be left to them."""

    def __init__(
        self, live: Ids, census: Census, present: AbstractSet[bytes], doomed: AbstractSet[bytes]
    ) -> None:
        self._census, self._present, self._doomed = census, present, doomed
        self._ids, numbers = np.unique(
            np.concatenate([as_void(live), as_void(census.chunks)]), return_inverse=True
        )
        self._chunk = numbers.reshape(-1)[len(live) :]  # of each row, a number
        self._live = np.zeros(len(self._ids), np.bool_)  # of each number
        self._live[numbers.reshape(-1)[: len(live)]] = True
        self._there = self._rows_in(present)
        self._usable = self._there & ~self._rows_in(doomed)
        self.missing = int((self._live & ~self._numbers(self._there)).sum())
        """Chunks that are needed and that the index does not know."""
        self.stale = set() if self.missing else set(census.packs) - present
        """Packs that the index names and that are gone. None while a chunk is missing: they may be away."""

    def plan(self, live_share: float, given_up: AbstractSet[bytes] = frozenset()) -> Plan:
        """Packs of whose bytes nothing, or less than that share, is needed, and those that are `given_up`;
        and what to save of them."""
        holder = self._holders(live_share, given_up)
        held, total = self._bytes(holder), self._bytes(self._there)
        poor = (held == 0) | (held < live_share * total)
        packs = self._census.packs
        garbage = {
            pack
            for pack, is_poor in zip(packs, poor, strict=True)
            if (is_poor or pack in given_up) and pack in self._present and pack not in self._doomed
        }
        condemned = garbage | set(self._doomed & self._present)
        # Needed, and either held by garbage or only in packs that another collector may delete.
        safe = self._numbers(holder & ~self._rows_in(garbage))
        homeless = self._live & self._numbers(self._there) & ~safe
        sources = sorted(condemned.intersection(packs))
        if not self.missing:
            condemned |= self._present - set(packs)
        return Plan(_as_ids(self._ids[homeless]), sources, condemned)

    def deletable(self, condemned: AbstractSet[bytes]) -> set[bytes]:
        """Those of the collector's packs that nothing needs which is not in a safe pack as well.

        What is in a pack that the index does not know is unknown: it stays while the index lacks anything.
        """
        safe = self._numbers(self._usable & ~self._rows_in(condemned))
        needs = self._there & self._live[self._chunk] & ~safe[self._chunk]
        needed = {self._census.packs[row] for row in np.unique(self._census.pack_of[needs])}
        if self.missing:
            needed |= self._present - set(self._census.packs)
        return set(condemned & self._present) - needed

    def _holders(self, live_share: float, given_up: AbstractSet[bytes]) -> NDArray[np.bool_]:
        """One usable row of each needed chunk: that in the pack with the most needed bytes. Packs that have
        to go come last, so that what an earlier attempt copied out of them is not copied again.
        """
        needed = self._usable & self._live[self._chunk]
        rows = np.flatnonzero(needed)
        packs = self._census.pack_of[rows]
        worth = self._bytes(needed)
        goes = (worth < live_share * self._bytes(self._there))[packs] | self._rows_in(given_up)[rows]
        rows = rows[np.lexsort((packs, -worth[packs], goes, self._chunk[rows]))]
        _, first = np.unique(self._chunk[rows], return_index=True)
        chosen = np.zeros(len(self._chunk), np.bool_)
        chosen[rows[first]] = True
        return chosen

    def _rows_in(self, packs: AbstractSet[bytes]) -> NDArray[np.bool_]:
        inside = np.fromiter(
            (pack in packs for pack in self._census.packs), np.bool_, len(self._census.packs)
        )
        return inside[self._census.pack_of]

    def _numbers(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of each number, whether one of these rows has it."""
        found = np.zeros(len(self._ids), np.bool_)
        found[self._chunk[rows]] = True
        return found

    def _bytes(self, rows: NDArray[np.bool_]) -> NDArray[Any]:
        """Stored bytes of these rows, by pack."""
        census = self._census
        return np.bincount(census.pack_of[rows], census.sizes[rows], len(census.packs))


def union(parts: Iterable[Ids]) -> Ids:
    """Each id once."""
    return _as_ids(merge(map(as_void, parts), np.unique, np.zeros(0, _VOID)))


def merge(
    parts: Iterable[NDArray[Any]], distinct: Callable[[NDArray[Any]], NDArray[Any]], empty: NDArray[Any]
) -> NDArray[Any]:
    """The distinct rows of all parts. Merges as it goes, so that many versions that share most chunks fit in
    memory."""
    known, waiting, count = empty, [], 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count > len(known) + 100_000:
            known, waiting, count = distinct(np.concatenate([known, *waiting])), [], 0
    return distinct(np.concatenate([known, *waiting]))


def as_void(ids: Ids) -> NDArray[Any]:
    """Ids as single values, which NumPy can sort and compare."""
    return np.ascontiguousarray(ids, np.uint8).reshape(-1, ID_BYTES).view(_VOID).reshape(-1)


def _as_ids(void: NDArray[Any]) -> Ids:
    return np.ascontiguousarray(void).view(np.uint8).reshape(-1, ID_BYTES)
