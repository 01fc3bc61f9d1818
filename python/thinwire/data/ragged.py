"""Batches, and the memory they lie in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RaggedBatch(Sequence[memoryview]):
    """Records of any length, one behind the other.

    `data`: their bytes, uint8 of shape (bytes,). `offsets`: int64 of shape (records + 1,); record i is
    `data[offsets[i]:offsets[i + 1]]`. `batch[i]` is a memoryview of it; nothing is copied.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each record, int64 of shape (records,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> list[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | list[memoryview]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return self.data[self.offsets[at] : self.offsets[at + 1]].data

    def __iter__(self) -> Iterator[memoryview]:
        memory, bounds = self.data.data, self.offsets.tolist()
        return (memory[begin:end] for begin, end in itertools.pairwise(bounds))

    def where(self, kept: NDArray[np.bool_]) -> RaggedBatch:
        """A copy of the records that are marked in bool (records,)."""
        lengths = self.lengths
        data = self.data[np.repeat(kept, lengths)]
        return RaggedBatch(data, ends_of(lengths[kept]))


def ends_of(sizes: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """The offsets of records of these sizes that follow each other: int64 of shape (records + 1,)."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
