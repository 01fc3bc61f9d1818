"""From the sampler's order to batches in that order: read ahead, transformed by several threads."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from thinwire.data.faults import Faults, corrupt
from thinwire.data.layout import Indices, Table
from thinwire.data.native import Memory, NativeFiles, Read, Reading
from thinwire.data.quality import Quality
from thinwire.data.ragged import RaggedBatch
from thinwire.data.remote import RemoteFiles
from thinwire.data.slots import address_of, slot
from thinwire.data.wanted import Wanted

_CALL_BYTES = 1 << 20  # small batches share a call of the native reader until they have so much
_MOST_IN_CALL = 16
_AHEAD_BYTES = 16 << 20  # by default so much is read ahead
_LEAST_AHEAD, _MOST_AHEAD = 4, 64  # batches
_REMOTE_AHEAD = 64  # batches whose files are fetched, by default

Step = Callable[[Any], Any]


class NamedBatch(NamedTuple):
    """A batch and where it comes from.

    `data`: the batch. `indices`: the numbers of its records, int64 of shape (records,), without those that
    were skipped. `weight`: what the sampler said of the batch as it was asked for; None where it says none.
    """

    data: Any
    indices: Indices
    weight: float | None


Work = Callable[[], NamedBatch]


@dataclass
class Delivered:
    """What came out of a reader so far."""

    records: int = 0
    batches: int = 0


@dataclass
class Pipeline:
    """Everything between a sampler's order and its batches.

    `steps` are done with each record in turn, then `collate` with the list of a batch, both on `threads`
    threads; 0 is the caller's own. Without steps and collate a batch is given as it was read.
    """

    files: NativeFiles
    table: Table
    faults: Faults
    most_record_bytes: int
    verify: bool
    steps: Sequence[Step]
    collate: Callable[[list[Any]], Any] | None
    threads: int
    quality: Quality | None
    remote: RemoteFiles | None
    delivered: Delivered = field(default_factory=Delivered)

    def run(
        self, order: Iterable[Wanted], prefetch: int | None, readahead: int | None
    ) -> Iterator[NamedBatch]:
        """The batches of `order`: `prefetch` are read ahead, `readahead` more are announced."""
        announced = self._announce(order, readahead)
        waiting: deque[Work] = deque()
        with contextlib.ExitStack() as stack:
            if self.remote:
                stack.callback(self.remote.cancel)
            start = self._start_workers(stack)
            for first in announced:
                window, in_call = self._depths(len(first.indices), prefetch)
                group = [first, *itertools.islice(announced, in_call - 1)]
                reading = self._read([wanted.indices for wanted in group])
                for number, wanted in enumerate(group):
                    waiting.append(start(partial(self._finish, reading, number, wanted.weight)))
                del reading  # with the last batch of it
                while len(waiting) > window - in_call:
                    yield self._deliver(waiting.popleft())
            while waiting:
                yield self._deliver(waiting.popleft())

    def _announce(self, order: Iterable[Wanted], readahead: int | None) -> Iterator[Wanted]:
        """The same; so many batches ahead, what they need is fetched, or the kernel told of it."""
        if readahead is None:
            readahead = _REMOTE_AHEAD if self.remote else 0
        return self._announced(iter(order), readahead) if readahead else iter(order)

    def _announced(self, order: Iterator[Wanted], readahead: int) -> Iterator[Wanted]:
        coming: deque[Wanted] = deque()
        for wanted in order:
            self.table.check(wanted.indices)
            places = self.table.places(wanted.indices)
            if self.remote:
                self.remote.start(places.files)
            else:
                self.files.ahead(places)
            coming.append(wanted)
            if len(coming) > readahead:
                yield coming.popleft()
        yield from coming

    def _depths(self, records: int, prefetch: int | None) -> tuple[int, int]:
        """How many batches of so many records are under way at once, and how many share a call."""
        batch_bytes = max(1, records * self.table.nbytes // max(1, self.table.count))
        if prefetch is None:
            prefetch = min(max(_AHEAD_BYTES // batch_bytes, _LEAST_AHEAD), _MOST_AHEAD)
        in_call = min(_CALL_BYTES // batch_bytes, _MOST_IN_CALL, (prefetch + 1) // 2)
        return prefetch + 1, max(in_call, 1)

    def _read(self, batches: Sequence[Indices]) -> Reading:
        return Reading(self.files, self.table, batches, self.most_record_bytes, self.verify, self.remote)

    def _start_workers(self, stack: contextlib.ExitStack) -> Callable[[Work], Work]:
        """What starts a piece of work; what that returns gives its result."""
        if not self.threads:
            return lambda work: work
        pool = ThreadPoolExecutor(self.threads, "thinwire-data")
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        return lambda work: pool.submit(work).result

    def _finish(self, reading: Reading, number: int, weight: float | None) -> NamedBatch:
        read = reading.take(number, self.faults)
        if self.quality is not None:
            _summarise(self.quality, read.memory)
        if not self.steps and self.collate is None:
            return NamedBatch(read.memory, read.indices, weight)
        records, kept = self._transform(read)
        collate = stacked if self.collate is None else self.collate
        return NamedBatch(collate(records), read.indices[kept], weight)

    def _transform(self, read: Read) -> tuple[list[Any], list[int]]:
        """The records after all steps, and which of the batch's they are."""
        records, kept = [], []
        for at, record in enumerate(read.memory):
            try:
                for step in self.steps:
                    record = step(record)
            except Exception as error:
                place = self.table.place(int(read.indices[at]))
                self.faults.add(corrupt(place, f"{type(error).__name__}: {error}"), error)
            else:
                records.append(record)
                kept.append(at)
        return records, kept

    def _deliver(self, work: Work) -> NamedBatch:
        batch = work()
        self.delivered.batches += 1
        self.delivered.records += len(batch.indices)
        return batch


def _summarise(quality: Quality, memory: Memory) -> None:
    if isinstance(memory, RaggedBatch):
        quality.update_ragged(address_of(memory.data), memory.offsets)
    else:
        quality.update(memory)


def stacked(records: list[Any]) -> Any:
    """Arrays of one dtype and shape, or numbers, as one array (records, ...); anything else as it is."""
    first = records[0] if records else None
    if isinstance(first, (bool, int, float, np.generic)):
        return np.asarray(records)
    if not isinstance(first, np.ndarray) or first.dtype.hasobject:
        return records
    if any(getattr(each, "shape", None) != first.shape or each.dtype != first.dtype for each in records):
        return records
    return np.stack(records, out=slot((len(records), *first.shape), first.dtype).array)
