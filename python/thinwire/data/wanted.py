"""What samplers ask for: batches of record numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from thinwire.data.layout import Indices
from thinwire.errors import InvalidArgument


class Wanted(NamedTuple):
    """A batch that a sampler asks for: int64 of shape (records,), and its weight, if it has one."""

    indices: Indices
    weight: float | None


def in_batches(order: Iterable[Any], batch_size: int | None) -> Iterator[Any]:
    """The batches of a sampler: as it gives them, or lists of so many of the numbers that it gives."""
    if batch_size is None:
        return iter(order)
    if batch_size < 1:
        raise InvalidArgument(f"batch_size is {batch_size}; it must be 1 or more")
    numbers = iter(order)
    return iter(lambda: list(itertools.islice(numbers, batch_size)), [])


def wanted(batch: Any) -> Wanted:
    """What a sampler gave. Raises InvalidArgument for what is no batch."""
    indices = np.asarray(getattr(batch, "indices", batch))
    if indices.ndim != 1 or (indices.dtype.kind not in "iu" and indices.size):
        raise InvalidArgument(
            f"the sampler gave {batch!r:.80}; a batch is a sequence of record numbers. For a sampler of "
            "single numbers pass batch_size"
        )
    return Wanted(np.ascontiguousarray(indices, np.int64), getattr(batch, "weight", None))
