"""What differs between two versions: their lists of chunks tell, and where parts share a chunk, its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from thinwire.store.index import Chunks
from thinwire.store.parts import Part, parts_of
from thinwire.store.reader import Reader

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
WHOLE = "content"
"""The name of the only part of a version that is one piece."""

Range: TypeAlias = tuple[int, int]
Facts: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A part that is in one version only, or in both and different.

    `a` and `b` are ranges of bytes, counted from the part's start, whose chunks the other side lacks; none on
    both sides where chunks changed places. `facts_a` and `facts_b` are what is said of the part and differs:
    mode, target, dtype, shape, value.
    """

    name: str
    how: str
    a: list[Range] = field(default_factory=list)
    b: list[Range] = field(default_factory=list)
    facts_a: Facts = field(default_factory=dict)
    facts_b: Facts = field(default_factory=dict)


def differences(a: Reader, b: Reader) -> list[Change]:
    """The parts that differ, in the order of `a`, then those that are only in `b`."""
    mine, theirs = _Parts(a), _Parts(b)
    if not (mine.by_name and theirs.by_name):
        mine, theirs = _Parts(a, whole=True), _Parts(b, whole=True)
    added = (
        Change(name, ADDED, b=_all(part)) for name, part in theirs.by_name.items() if name not in mine.by_name
    )
    return [*_compared(mine, theirs), *added]


def _compared(mine: _Parts, theirs: _Parts) -> Iterator[Change]:
    for name, part in mine.by_name.items():
        other = theirs.by_name.get(name)
        if other is None:
            yield Change(name, REMOVED, a=_all(part))
            continue
        ranges = _differing(mine, part, theirs, other)
        facts = {key for key in {*part.facts, *other.facts} if part.facts.get(key) != other.facts.get(key)}
        if ranges or facts:
            facts_a, facts_b = ({key: p.facts.get(key) for key in sorted(facts)} for p in (part, other))
            yield Change(name, CHANGED, *(ranges or ([], [])), facts_a, facts_b)


class _Parts:
    """The parts of a version, and the chunks of each."""

    def __init__(self, reader: Reader, whole: bool = False) -> None:
        found = [Part(WHOLE, 0, reader.size, {})] if whole else parts_of(reader.metadata)
        self.by_name = {part.name: part for part in found}
        self._reader = reader
        self._ends = np.cumsum(reader.chunks["size"], dtype=np.int64)
        self._read = lru_cache(2)(self._read_chunks)  # small parts that share a chunk come one after another

    def rows(self, part: Part) -> Range:
        """The chunks that a part's bytes lie in."""
        if part.begin == part.end:
            return 0, 0
        first = int(np.searchsorted(self._ends, part.begin, side="right"))
        return first, int(np.searchsorted(self._ends, part.end, side="left")) + 1

    def chunks(self, part: Part) -> Chunks:
        """The same, as the manifest lists them."""
        first, last = self.rows(part)
        return self._reader.chunks[first:last]

    def alone(self, part: Part) -> bool:
        """Whether the part has its chunks for itself."""
        return int(self.chunks(part)["size"].sum()) == part.end - part.begin

    def bytes_of(self, part: Part) -> NDArray[np.uint8]:
        """The part's bytes, for one that shares its chunks: these are few."""
        begin = self.offset(part)
        return self._read(*self.rows(part))[begin : begin + part.end - part.begin]

    def offset(self, part: Part) -> int:
        """Where the part begins in its first chunk."""
        first, _ = self.rows(part)
        return part.begin - (int(self._ends[first - 1]) if first else 0)

    def _read_chunks(self, first: int, last: int) -> NDArray[np.uint8]:
        data = np.empty(int(self._reader.chunks["size"][first:last].sum()), np.uint8)
        self._reader.read_into([((first, last), data)])
        return data


def _differing(mine: _Parts, a: Part, theirs: _Parts, b: Part) -> tuple[list[Range], list[Range]] | None:
    """The ranges of bytes that are on one side only; None where the parts are equal."""
    chunks, others = mine.chunks(a), theirs.chunks(b)
    alike = len(chunks) == len(others) and bool((chunks["id"] == others["id"]).all())
    if mine.alone(a) and theirs.alone(b):
        return None if alike else (_only_in(chunks, others), _only_in(others, chunks))
    if alike and (mine.offset(a), a.end - a.begin) == (theirs.offset(b), b.end - b.begin):
        return None
    return _differing_bytes(mine.bytes_of(a), theirs.bytes_of(b))


def _differing_bytes(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[list[Range], list[Range]] | None:
    common = min(len(a), len(b))
    at = np.flatnonzero(a[:common] != b[:common])
    if not len(at) and len(a) == len(b):
        return None
    first = int(at[0]) if len(at) else common
    last = int(at[-1]) + 1 if len(a) == len(b) else None
    return _one_range(first, last or len(a)), _one_range(first, last or len(b))


def _one_range(begin: int, end: int) -> list[Range]:
    return [(begin, end)] if end > begin else []


def _all(part: Part) -> list[Range]:
    return _one_range(0, part.end - part.begin)


def _only_in(chunks: Chunks, others: Chunks) -> list[Range]:
    """The bytes of the chunks that the others lack; neighbours are one range."""
    which = ~np.isin(_keys(chunks), _keys(others))
    ends = np.cumsum(chunks["size"], dtype=np.int64)
    edges = np.diff(np.concatenate([[False], which, [False]]).astype(np.int8))
    firsts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    begins = ends[firsts] - chunks["size"][firsts].astype(np.int64)
    return list(zip(begins.tolist(), ends[lasts].tolist(), strict=True))


def _keys(chunks: Chunks) -> NDArray[Any]:
    return np.ascontiguousarray(chunks["id"]).view("V32").reshape(-1)
