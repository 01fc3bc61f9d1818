"""Which of many fingerprints were there before, in bounded memory.

Fingerprints come in batches, in the order of their records. As many as memory allows are compared at once.
Where there are more, those that were new among their own go to the disk, into 256 partitions by one byte of
the fingerprint; equal ones meet in the same partition. Each partition is then treated in the same way, by its
next byte. So the answer does not depend on the memory, and a fingerprint that comes a billion times takes no
more than others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FINGERPRINT_BYTES = 16
"""Bytes of a fingerprint. Of a good hash: two of 10**12 different records are equal once in 10**14 runs."""

ROW = np.dtype([("high", "<u8"), ("low", "<u8"), ("number", "<u8")])
"""A fingerprint, and the number of its record."""

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
Numbers: TypeAlias = NDArray[np.uint64]

WORKING_BYTES = 128
"""What `repeated` needs for a row, the row included."""

_PARTITIONS = 256
_FEWEST_ROWS = 2  # with fewer at once, equal rows would never meet
_READ_BYTES = 1 << 20


def rows_of(fingerprints: NDArray[np.uint8], first: int) -> Rows:
    """Rows of uint8[n, 16] fingerprints, whose records are numbered from `first` on."""
    rows = np.empty(len(fingerprints), ROW)
    halves = np.ascontiguousarray(fingerprints).view("<u8")
    rows["high"], rows["low"] = halves[:, 0], halves[:, 1]
    rows["number"] = np.arange(first, first + len(rows), dtype=np.uint64)
    return rows


def repeated(rows: Rows) -> NDArray[np.bool_]:
    """Which rows have an equal fingerprint before them."""
    high = np.ascontiguousarray(rows["high"])
    order = np.argsort(high)
    twin = high[order[1:]] == high[order[:-1]]
    alike = np.zeros(len(rows), np.bool_)  # by half the fingerprint, which sorts much faster than all of it
    alike[order[1:][twin]] = alike[order[:-1][twin]] = True
    suspects = np.flatnonzero(alike)
    part = rows[suspects]
    order = np.lexsort((part["low"], part["high"]))  # stable: of equal ones the first stays the first
    same = (part["high"][order[1:]] == part["high"][order[:-1]]) & (
        part["low"][order[1:]] == part["low"][order[:-1]]
    )
    found = np.zeros(len(rows), np.bool_)
    found[suspects[order[1:][same]]] = True
    return found


class Comparer:
    """Calls `drop` with the numbers of records whose fingerprint an earlier record has.

    `memory` is what comparing may take, in bytes; `folder` is empty, for what does not fit.
    """

    def __init__(self, folder: Path, memory: int, drop: Callable[[Numbers], None]) -> None:
        self._folder, self._drop = folder, drop
        self._most_rows = max(memory // WORKING_BYTES, _FEWEST_ROWS)

    def compare(self, batches: Iterable[Rows], level: int = 0) -> None:
        """Compare all rows of all batches. So many bytes of their fingerprints, `level`, are equal."""
        partitions = self._compare_those_at_hand(batches, level)
        for rows in partitions.take() if partitions else ():
            self.compare(rows, level + 1)

    def _compare_those_at_hand(self, batches: Iterable[Rows], level: int) -> _Partitions | None:
        """Compare as many at once as memory allows; where these were not all, the new ones among each."""
        partitions: _Partitions | None = None
        for rows in _gathered(batches, self._most_rows):
            again = repeated(rows)
            self._drop(rows["number"][again])
            if partitions is None and len(rows) < self._most_rows:
                break
            partitions = partitions or _Partitions(self._folder, level)
            partitions.add(rows[~again])
        return partitions


class _Partitions:
    """Rows in files, by one byte of their fingerprints."""

    def __init__(self, folder: Path, level: int) -> None:
        self._paths = [folder / f"{level}.{number:02x}" for number in range(_PARTITIONS)]
        self._level = level

    def add(self, rows: Rows) -> None:
        word, byte = divmod(self._level, 8)
        keys = (rows["low" if word else "high"] >> np.uint64(8 * byte)).astype(np.uint8)
        order = np.argsort(keys, kind="stable")  # a radix sort, and it keeps the order of the records
        bounds = np.searchsorted(keys[order], np.arange(_PARTITIONS + 1))
        for path, begin, end in zip(self._paths, bounds[:-1], bounds[1:], strict=True):
            if begin < end:
                with path.open("ab", buffering=0) as file:
                    _write(file, rows[order[begin:end]])

    def take(self) -> Iterator[Iterator[Rows]]:
        """The rows of each partition, in the order in which they were added."""
        for path in self._paths:
            if path.exists():
                yield _read(path)
                path.unlink()


def _write(file: Any, rows: Rows) -> None:
    left = rows.view(np.uint8).data
    while len(left):
        left = left[file.write(left) :]


def _read(path: Path) -> Iterator[Rows]:
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES // ROW.itemsize * ROW.itemsize):
            yield np.frombuffer(data, ROW)


def _gathered(batches: Iterable[Rows], most: int) -> Iterator[Rows]:
    """The same rows, `most` at a time. What is yielded is valid until the next is asked for."""
    held, filled = np.empty(most, ROW), 0
    for rows in batches:
        while len(rows):
            taken = min(len(rows), most - filled)
            held[filled : filled + taken] = rows[:taken]
            rows, filled = rows[taken:], filled + taken
            if filled == most:
                yield held
                filled = 0
    yield held[:filled]
