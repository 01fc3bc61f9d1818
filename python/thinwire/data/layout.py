"""Where records lie: in one file, and from the number of a record over all files to its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire.data.ragged import ends_of
from thinwire.errors import InvalidArgument

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Element:
    """What a record of a fixed size is: an array of this dtype and shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of a record."""
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


@dataclass(frozen=True)
class FixedLayout:
    """Records of one size that follow each other from byte `start` on; `sums`: XXH3-64 of each, uint64."""

    count: int
    start: int
    element: Element
    sums: Words | None = None


@dataclass(frozen=True)
class VariedLayout:
    """Records of any length: `offsets` and `sizes` in bytes, int64 of shape (count,); `sums` as above."""

    offsets: Indices
    sizes: Indices
    sums: Words | None = None

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.offsets)


Layout = FixedLayout | VariedLayout


class Places(NamedTuple):
    """Where some records lie: number of the file, first byte, bytes, checksum; of shape (count,) each."""

    files: NDArray[np.uint32]
    offsets: Words
    sizes: Words
    sums: Words | None

    def some(self, which: NDArray[np.int64]) -> Places:
        """Those at these positions."""
        sums = None if self.sums is None else self.sums[which]
        return Places(self.files[which], self.offsets[which], self.sizes[which], sums)


class Place(NamedTuple):
    """Where one record lies, for people: `record` is its number in the file, None where all is meant."""

    file: str
    offset: int | None = None
    record: int | None = None

    def __str__(self) -> str:
        if self.record is None:
            return self.file
        return f"{self.file}, record {self.record} at byte {self.offset}"


class Table:
    """The records of several files, numbered from 0 in the order of the files.

    `ends`: of each file, the number after its last record. `bases`, where records have one size: of each
    file, the byte where record 0 would begin. Both int64 of shape (files,).
    """

    def __init__(self, paths: Sequence[str], layouts: Sequence[Layout]) -> None:
        self._paths = paths
        self._firsts = ends_of([layout.count for layout in layouts])
        self.ends = self._firsts[1:]
        self.count = int(self._firsts[-1])
        self.element: Element | None = None
        self._offsets: Indices | None = None
        self._sums = _joined([layout.sums for layout in layouts])
        fixed = [layout for layout in layouts if isinstance(layout, FixedLayout)]
        varied = [layout for layout in layouts if isinstance(layout, VariedLayout)]
        if fixed:
            self.element = _common_element(paths, layouts)
            starts = np.array([layout.start for layout in fixed], np.int64)
            self.bases = starts - self._firsts[:-1] * self.element.nbytes
            self.nbytes = self.count * self.element.nbytes
        else:
            self._offsets = np.concatenate([np.zeros(0, np.int64), *(layout.offsets for layout in varied)])
            self._sizes = np.concatenate([np.zeros(0, np.int64), *(layout.sizes for layout in varied)])
            self.nbytes = int(self._sizes.sum())

    @property
    def has_sums(self) -> bool:
        """Whether checksums of the records are known."""
        return self._sums is not None

    def places(self, indices: Indices) -> Places:
        """Where these records lie; the numbers must be in range."""
        files = self.ends.searchsorted(indices, "right")
        if self._offsets is not None:
            offsets, sizes = self._offsets[indices], self._sizes[indices].view(np.uint64)
        else:
            assert self.element is not None
            offsets = indices * self.element.nbytes + self.bases[files]
            sizes = np.full(len(indices), self.element.nbytes, np.uint64)
        sums = None if self._sums is None else self._sums[indices]
        return Places(files.astype(np.uint32), offsets.view(np.uint64), sizes, sums)

    def place(self, index: int) -> Place:
        """Where one record lies, for people."""
        where = self.places(np.array([index], np.int64))
        file = int(where.files[0])
        return Place(self._paths[file], int(where.offsets[0]), index - int(self._firsts[file]))

    def check(self, indices: Indices) -> None:
        """Raise InvalidArgument where a number is out of range."""
        wrong = indices.view(np.uint64) >= self.count  # which takes negative numbers for large ones
        if np.count_nonzero(wrong):
            raise InvalidArgument(
                f"there is no record {indices[wrong][0]}: the reader has {self.count}, numbered from 0"
            )


def _joined(sums: Sequence[Words | None]) -> Words | None:
    known = [each for each in sums if each is not None]
    return np.concatenate(known) if known else None


def _common_element(paths: Sequence[str], layouts: Sequence[Layout]) -> Element:
    """That of all files. Raises InvalidArgument where two differ."""
    elements = [getattr(layout, "element", None) for layout in layouts]
    for path, element in zip(paths, elements, strict=True):
        if element != elements[0]:
            raise InvalidArgument(
                f"{path} has records that are {element or 'bytes of any length'}, and {paths[0]} "
                f"{elements[0] or 'bytes of any length'}; make a reader for each kind"
            )
    common = elements[0]
    assert isinstance(common, Element)
    return common
