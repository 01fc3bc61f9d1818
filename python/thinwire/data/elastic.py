"""ElasticSampler: every sample once an epoch, however often ranks die, resume and change their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire.data.batches import (
    Batch,
    apportion,
    check_state,
    checked_count,
    checked_rank,
    checked_shares,
    checked_steps,
    global_batches,
    global_size,
)
from thinwire.data.order import LARGEST, Order
from thinwire.errors import InvalidArgument

STATE_VERSION = 1
"""Of the order as well: what it is for a seed and an epoch."""


class _Cursor(NamedTuple):
    """A place between two samples: `offset` of that epoch's lie before it."""

    epoch: int
    offset: int


_START = _Cursor(0, 0)


class ElasticSampler:
    """This rank's batches of one global batch after another, for torch's `batch_sampler=` or a RecordReader.

    Args:
        size: samples of the data set, up to 2^62; none of them takes memory here.
        batch_size: samples of one rank's batch.
        rank, world_size: which part of each global batch is this rank's.
        seed: of the order; the same on all ranks.
        shuffle: False for the samples as they lie.

    The cursor lies before the first sample that is not committed. It moves by `commit` alone, after a step
    that changed the model, so that what a loader had fetched ahead, or a rank that died had begun, is given
    out again. All ranks commit the same steps; the state of any of them resumes all, in any number.

    An epoch's last global batch is divided evenly: the parts differ by one sample at most. A batch is empty,
    of weight 0, only where fewer samples are left than ranks at the start (or, with a batch size of 1, in the
    last step).

    Raises InvalidArgument for numbers that do not fit.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.size = checked_count("size", size)
        if self.size > LARGEST:
            raise InvalidArgument(f"size is {size}; a sampler puts up to 2^62 samples in order")
        self.batch_size = checked_count("batch_size", batch_size)
        self.world_size = checked_count("world_size", world_size)
        self.rank = checked_rank(rank, self.world_size)
        self._seed, self._shuffle = checked_count("seed", seed, 0), bool(shuffle)
        self._cursor = self._given = _START  # committed, and handed to a loader
        self._shares = self._even()

    @property
    def epoch(self) -> int:
        """The epoch in which the cursor lies."""
        return self._cursor.epoch

    @property
    def offset(self) -> int:
        """How many samples of that epoch are committed, by all ranks together."""
        return self._cursor.offset

    @property
    def weight(self) -> float:
        """The weight of this rank's batch at the cursor: that of the step to be committed next.

        For loaders that hand on the samples but not the `Batch`.
        """
        counts = self._counts(self._cursor)
        return float(counts[self.rank] / counts.sum())

    def __len__(self) -> int:
        """How many batches the epoch still has, from the cursor on."""
        return global_batches(self.size - self.offset, self.batch_size, self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the cursor to the end of its epoch. Commits that come meanwhile change nothing."""
        self._given = self._cursor
        return self._batches(self._cursor)

    def commit(self, steps: int = 1) -> None:
        """Move the cursor past the next `steps` batches; after the last one of an epoch begins the next.

        Call it on all ranks once the model has taken the steps. Raises InvalidArgument, and moves nothing,
        for more batches than the epoch has left.
        """
        self._cursor = self._ahead(checked_steps(steps, self.epoch, len(self)))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; in the cursor's own, stay where it is."""
        wanted = checked_count("epoch", epoch, 0)
        if wanted != self.epoch:
            self._cursor = _Cursor(wanted, 0)
            self._shares = [(_START, self._shares[-1][1])]

    def set_shares(self, shares: Sequence[float], after: int = 0) -> None:
        """Divide global batches unevenly: each rank takes samples in proportion to its share, one at least.

        `shares`: positive numbers, one a rank, such as `WeightedShares.update` returns. They hold from the
        batch on that lies `after` steps past the cursor. Call it with the same numbers at the same step of
        all ranks. What a global batch holds, and what is committed, does not depend on them.

        Raises InvalidArgument for other numbers, and where that batch has been given out already: a loader
        that fetches ahead needs an `after` of its depth.
        """
        found = checked_shares("shares", shares, self.world_size)
        start = self._ahead(checked_count("after", after, 0))
        if start < self._given:
            raise InvalidArgument(
                f"after is {after}, but batches beyond that have been fetched ahead; pass the loader's depth"
            )
        kept = [entry for entry in self._shares if entry[0] < start]
        while len(kept) > 1 and kept[1][0] <= self._cursor:
            del kept[0]
        self._shares = [*kept, (start, found)]

    def state_dict(self) -> dict[str, Any]:
        """Return the cursor and what the order depends on, as small JSON. The same on all ranks."""
        return {
            "version": STATE_VERSION,
            "size": self.size,
            "seed": self._seed,
            "shuffle": self._shuffle,
            **self._cursor._asdict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another sampler was, of any rank, world size and batch size; with its seed and shuffle.

        Batches are divided evenly again. Raises InvalidArgument, and changes nothing, for a state of other
        data or of another version.
        """
        check_state(state, STATE_VERSION, self.size)
        offset, shuffle = checked_count("offset of the state", state.get("offset"), 0), state.get("shuffle")
        if offset >= self.size or not isinstance(shuffle, bool):
            raise InvalidArgument(
                f"offset {offset} and shuffle {shuffle!r} of the state are not of a sampler"
            )
        self._seed, self._shuffle = state["seed"], shuffle
        self._cursor = self._given = _Cursor(state["epoch"], offset)
        self._shares = self._even()

    def _batches(self, cursor: _Cursor) -> Iterator[Batch]:
        order = Order(self.size, (self._seed, cursor.epoch) if self._shuffle else None)
        while cursor.offset < self.size:
            counts = self._counts(cursor)
            mine, total = int(counts[self.rank]), int(counts.sum())
            start = cursor.offset + int(counts[: self.rank].sum())
            cursor = self._given = cursor._replace(offset=cursor.offset + total)
            yield Batch(order.take(start, mine), mine / total)

    def _counts(self, cursor: _Cursor) -> NDArray[np.int64]:
        """How many samples each rank takes of the global batch at a cursor."""
        return apportion(self._total(cursor), self._shares_at(cursor))

    def _total(self, cursor: _Cursor) -> int:
        return global_size(self.size - cursor.offset, self.batch_size, self.world_size)

    def _shares_at(self, cursor: _Cursor) -> tuple[float, ...]:
        _, found = self._shares[0]
        for since, shares in self._shares:
            if since <= cursor:
                found = shares
        return found

    def _even(self) -> list[tuple[_Cursor, tuple[float, ...]]]:
        """Equal shares, from the start on."""
        return [(_START, (1.0,) * self.world_size)]

    def _ahead(self, steps: int) -> _Cursor:
        cursor = self._cursor
        for _ in range(steps):
            end = cursor.offset + self._total(cursor)
            cursor = _Cursor(cursor.epoch, end) if end < self.size else _Cursor(cursor.epoch + 1, 0)
        return cursor


__all__ = ["ElasticSampler"]
