"""The native reader: one a process, and what one call of it reads."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire import _core
from thinwire.data.faults import TOO_LARGE, Faults, error_of
from thinwire.data.layout import Element, Indices, Places, Table
from thinwire.data.ragged import RaggedBatch, ends_of
from thinwire.data.remote import RemoteFiles
from thinwire.data.slots import address_of, slot
from thinwire.errors import InvalidArgument, Timeout

_BYTE = np.dtype(np.uint8)
_SIGNALS_S = 0.2  # how long a wait may keep Python from handling Ctrl-C
_STALLED_S = 30.0  # how long to go on where other processes take all out of the disk cache that was fetched
_ATTEMPTS = 3  # at least: to fetch once may take longer

Memory = NDArray[Any] | RaggedBatch
"""A batch as it was read: an array of shape (records, *shape), or records of any length."""


class NativeFiles:
    """The native reader of some local files, opened in whatever process uses it."""

    def __init__(self, paths: Sequence[str], options: Mapping[str, Any]) -> None:
        self._paths, self._options = paths, dict(options)
        self._reader: _core.FileReader | None = None
        self._reset()

    def open(self) -> _core.FileReader:
        """This process's native reader."""
        if self._process != os.getpid():
            self._reset()  # a forked child: what it has here belongs to its parent
        with self._lock:
            if self._reader is None:
                self._reader = _core.FileReader(self._paths, **self._options)
            return self._reader

    def ahead(self, places: Places) -> None:
        """Tell the kernel what will be read."""
        addresses = address_of(places.files), address_of(places.offsets), address_of(places.sizes)
        self.open().ahead(len(places.files), *addresses)

    def stats(self) -> dict[str, Any]:
        """The counters of this process's reader."""
        return dict(self.open().stats())

    def close(self) -> None:
        """Ends what it is reading; the next use opens it again."""
        with self._lock:
            if self._reader is not None and self._process == os.getpid():
                self._reader.close()
            self._reader = None

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._reader = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


class Read(NamedTuple):
    """A batch whose records are in memory: those that are there, and their numbers."""

    memory: Memory
    indices: Indices


class Reading:
    """Batches that one call of the native reader reads, in the background.

    Dropping it waits for what is under way. Where a signal ends that, the memory goes back later.
    """

    def __init__(
        self,
        files: NativeFiles,
        table: Table,
        batches: Sequence[Indices],
        most: int,
        verify: bool,
        remote: RemoteFiles | None,
    ) -> None:
        self._under_way: _core.Reads | None = None
        self._any_fault: bool | None = None  # not known while reads are under way
        self._lock = threading.Lock()
        self._native, self._table, self._batches, self._remote = files.open(), table, batches, remote
        self._bounds = list(itertools.accumulate(map(len, batches), initial=0))
        indices = batches[0] if len(batches) == 1 else np.concatenate(batches)
        table.check(indices)
        self._codes = np.zeros(len(indices), np.int32)
        self._large = None
        if table.element is not None and not remote and not (verify and table.has_sums):
            self._submit_fixed(table, table.element, indices)
            return
        places = table.places(indices)
        if table.element is None and (large := places.sizes > most).any():
            self._large = large
            places = places._replace(sizes=np.where(large, np.uint64(0), places.sizes))
        self._places = places if verify else places._replace(sums=None)
        self._memory, self._targets = self._reserve()
        if remote:
            remote.fetch(places.files)
        self._submit(self._places, self._targets, self._codes)

    def wait(self) -> None:
        """Return when every read has ended, well or not."""
        if self._any_fault is not None:
            return
        with self._lock:
            if self._any_fault is not None:  # another thread has waited
                return
            self._wait()
            if self._remote:
                self._read_evicted(self._remote)
            if self._large is not None:
                self._codes[self._large] = TOO_LARGE
            self._any_fault = bool(np.count_nonzero(self._codes))

    def __del__(self) -> None:
        with contextlib.suppress(InvalidArgument):  # in a forked child, where nothing is under way
            self._wait()

    def take(self, number: int, faults: Faults) -> Read:
        """One of the batches, once, without the records that have faults."""
        self.wait()
        indices, memory = self._batches[number], self._memory.pop(number)
        if not self._any_fault:
            return Read(memory, indices)
        codes = self._codes[self._bounds[number] : self._bounds[number + 1]]
        for at in np.flatnonzero(codes).tolist():
            faults.add(error_of(int(codes[at]), self._table.place(int(indices[at]))))
        return keep(Read(memory, indices), codes == 0)

    def _reserve(self) -> tuple[dict[int, Memory], NDArray[np.uint64]]:
        """Memory for each batch, and the address that each record goes to."""
        targets = np.empty(len(self._codes), np.int64)
        memory: dict[int, Memory] = {}
        element = self._table.element
        if element is not None:
            starts = np.arange(max(map(len, self._batches))) * element.nbytes
        for number, (begin, end) in enumerate(itertools.pairwise(self._bounds)):
            if element is None:
                starts = ends_of(self._places.sizes[begin:end])
                data, address = slot((int(starts[-1]),), _BYTE)
                memory[number] = RaggedBatch(data, starts)
            else:
                memory[number], address = slot((end - begin, *element.shape), element.dtype)
            np.add(starts[: end - begin], address, out=targets[begin:end])
        return memory, targets.view(np.uint64)

    def _submit_fixed(self, table: Table, element: Element, indices: Indices) -> None:
        """The short way, where nothing is known of each record but its number."""
        slots = [slot((len(batch), *element.shape), element.dtype) for batch in self._batches]
        self._memory = {number: each.array for number, each in enumerate(slots)}
        filled = [(each.address, len(each.array)) for each in slots]
        self._under_way = self._native.submit_fixed(
            indices, table.ends, table.bases, element.nbytes, filled, self._codes, slots
        )

    def _submit(self, places: Places, targets: NDArray[np.uint64], codes: NDArray[np.int32]) -> None:
        self._under_way = self._native.submit(
            len(codes),
            address_of(places.files),
            address_of(places.offsets),
            address_of(places.sizes),
            address_of(targets),
            0 if places.sums is None else address_of(places.sums),
            address_of(codes),
            ([*self._memory.values()], codes),
        )

    def _wait(self) -> None:
        while self._under_way is not None:
            if self._under_way.wait(_SIGNALS_S):
                self._under_way = None

    def _read_evicted(self, remote: RemoteFiles) -> None:
        """Read again what another process took out of the disk cache between fetching and reading."""
        since, attempts, left = time.monotonic(), 0, len(self._codes)
        is_remote = remote.among(self._places.files)
        while len(gone := np.flatnonzero((self._codes == errno.ENOENT) & is_remote)):
            if len(gone) < left:
                since, attempts, left = time.monotonic(), 0, len(gone)
            elif attempts >= _ATTEMPTS and time.monotonic() - since >= _STALLED_S:
                raise Timeout(
                    f"files are thrown out of the disk cache before they are read: {len(gone)} records,"
                    f" {attempts} attempts; give the processes that share it a larger cache_limit"
                )
            attempts += 1
            places = self._places.some(gone)
            codes = np.zeros(len(gone), np.int32)
            remote.fetch(places.files)
            self._submit(places, self._targets[gone], codes)
            self._wait()
            self._codes[gone] = codes


def keep(read: Read, kept: NDArray[np.bool_]) -> Read:
    """The records of a batch that are marked in bool (records,)."""
    memory = read.memory
    remaining = memory.where(kept) if isinstance(memory, RaggedBatch) else memory[kept]
    return Read(remaining, read.indices[kept])
