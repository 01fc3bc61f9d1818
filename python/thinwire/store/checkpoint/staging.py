"""A consistent copy of what changed since the last durable save, made as fast as memory allows.

A block is recognised as unchanged by XXH3-128 under a secret of this process. Where all of an extent changed
the last time, asking would cost more than it saves: it is copied at once, and compared in the background. The
blocks of a device's tensors are recognised there, always: its memory is many times faster than the way to the
host.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import torch

from thinwire import _core
from thinwire._host_array import shared_block
from thinwire.store.checkpoint import tensors
from thinwire.store.checkpoint.devices import DIGEST_BYTES, Device, Devices, Digests
from thinwire.store.checkpoint.layout import BLOCK_BYTES, Layout, Offsets
from thinwire.store.checkpoint.tensors import Bytes
from thinwire.store.index import CHUNK, Chunks

_TASK_BLOCKS = 1  # compared and copied by one thread
_RUN_BLOCKS = 4  # handed to the store at once
_SECRET = secrets.token_bytes(192)

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Key = tuple[str, int]


class Known(NamedTuple):
    """One extent as it was last saved: digests (uint8[n, 16]) and chunks of its blocks."""

    digests: Digests
    chunks: Chunks
    volatile: bool  # all of it had changed


class Staging:
    """The buffer that saves share, one at a time, and the devices that they copy from."""

    def __init__(self) -> None:
        self._buffer: Bytes = np.empty(0, np.uint8)
        self.devices = Devices()

    def reserve(self, size: int) -> Bytes:
        """At least `size` bytes of the process's pool. Raises PoolExhausted."""
        if len(self._buffer) < size:
            self._buffer = np.empty(0, np.uint8)  # its memory may serve again
            self._buffer = np.asarray(shared_block(size))
        return self._buffer


class Run(NamedTuple):
    """Consecutive blocks to be stored: their numbers, their bytes, where in these each block ends."""

    blocks: slice
    memory: Bytes
    ends: Offsets


class Piece:
    """One extent on its way into the store. `memory` is where its bytes are, or are copied to.

    `live`: that is the tensor's own memory, and nothing is copied.
    `seen`: blocks are compared with `before` when they are taken, and copied only if they differ; otherwise
    all are copied, and compared later.
    """

    def __init__(
        self,
        key: Key,
        memory: Bytes,
        element_size: int | None,
        before: Known | None,
        *,
        live: bool = False,
        seen: bool = False,
    ) -> None:
        self.key, self.memory, self.element_size = key, memory, element_size
        self._before, self.live, self.seen = before, live, seen
        self.blocks = -(-len(memory) // BLOCK_BYTES)
        self.chunks: Chunks = np.zeros(self.blocks, CHUNK)
        self.stale: Mask = np.ones(self.blocks, np.bool_)
        """Blocks to be stored; the others are the chunks they were."""
        self._digests: Digests = np.zeros((self.blocks, DIGEST_BYTES), np.uint8)

    @property
    def whole(self) -> bool:
        """Whether, once taken, all its bytes are at hand, not only those that changed."""
        return self.live or not self.seen or bool(self.stale.all())

    def tasks(self) -> range:
        """The first blocks of the tasks that `take` and `compare` are divided into."""
        return range(0, self.blocks, _TASK_BLOCKS)

    def take(self, data: Bytes, first: int) -> None:
        """Copy the blocks of a task out of the live tensor."""
        last = min(first + _TASK_BLOCKS, self.blocks)
        if self.seen:
            self._compare(data, first, last)
        if not self.live:
            for rows in _runs(self.stale, first, last):
                self.memory[_bytes_of(rows)] = data[_bytes_of(rows)]

    def recognise(self, digests: Digests) -> None:
        """Take the digests of all blocks from a device, which then copies those that differ alone."""
        self.seen = True
        self._recognise(slice(0, self.blocks), digests)

    def fetch(self, data: torch.Tensor, device: Device) -> None:
        """Begin to copy the blocks from a device."""
        for rows in _runs(self.stale, 0, self.blocks):
            device.fetch(data[_bytes_of(rows)], self.memory[_bytes_of(rows)])

    def compare(self, first: int) -> None:
        """Compare the blocks of a task after they were copied."""
        self._compare(self.memory, first, min(first + _TASK_BLOCKS, self.blocks))

    def runs(self) -> Iterator[Run]:
        """The blocks to be stored, in order."""
        for rows in _runs(self.stale, 0, self.blocks):
            memory = self.memory[_bytes_of(rows)]
            yield Run(rows, memory, _ends(rows, len(memory)))

    def known(self) -> Known:
        """What to remember once all of it is durable."""
        return Known(self._digests, self.chunks, bool(self.stale.all()))

    def _compare(self, data: Bytes, first: int, last: int) -> None:
        rows = slice(first, last)
        part = data[_bytes_of(rows)]
        self._recognise(rows, _core.xxh3_128_blocks(part.data, _ends(rows, len(part)), _SECRET, 1))

    def _recognise(self, rows: slice, digests: Digests) -> None:
        self._digests[rows] = digests
        if self._before is not None:
            self.stale[rows] = (digests != self._before.digests[rows]).any(axis=1)
            self.chunks[rows] = self._before.chunks[rows]


class Snapshot:
    """All extents of one save.

    `in_place`: nobody writes to the state before the save is durable, so what lies in the host's memory need
    not be copied.
    """

    def __init__(self, layout: Layout, staging: Staging, known: Mapping[Key, Known], in_place: bool) -> None:
        self._devices = staging.devices
        self._sources = [source for source in layout.sources if source.extent]
        self._small = [source for source in layout.sources if not source.extent]
        buffer = staging.reserve(layout.extents.size)
        begins = layout.extents.begins
        key = ("", layout.extents.sizes[0])  # no path is empty: of extent 0
        self.pieces = [Piece(key, buffer[: begins[1]], None, known.get(key))]
        for source in self._sources:
            key, on_host = (source.path, len(source.data)), self._devices.of(source.data) is None
            before, live = known.get(key), in_place and on_host
            staged = buffer[begins[source.extent] : begins[source.extent + 1]]
            self.pieces.append(
                Piece(
                    key,
                    tensors.host_bytes(source.data) if live else staged,
                    source.element_size,
                    before,
                    live=live,
                    seen=on_host and before is not None and not before.volatile,
                )
            )

    @property
    def whole(self) -> bool:
        """Whether, once taken, all bytes are at hand, not only those that changed."""
        return all(piece.whole for piece in self.pieces)

    @property
    def chunks(self) -> Chunks:
        """The chunks of all blocks, in order."""
        return np.concatenate([piece.chunks for piece in self.pieces])

    def take(self, executor: Executor) -> None:
        """Copy what changed. When this returns, the state may be written to again, unless `in_place`."""
        try:
            tasks = self._begin()
            list(executor.map(lambda task: task[0].take(task[1], task[2]), tasks))
        finally:
            self._devices.finish()

    def compare(self, executor: Executor) -> None:
        """Find out, of what was copied unseen, what need not be stored."""
        jobs = [(piece, first) for piece in self.pieces if not piece.seen for first in piece.tasks()]
        list(executor.map(lambda job: job[0].compare(job[1]), jobs))

    def known(self) -> dict[Key, Known]:
        """What the next save compares with, once this one is durable."""
        return {piece.key: piece.known() for piece in self.pieces}

    def _begin(self) -> list[tuple[Piece, Bytes, int]]:
        """Copy what is small, begin the copies from devices; the tasks that are left for the host."""
        for source in self._small:
            end = source.offset + len(source.data)
            self._copy(source.data, self.pieces[0].memory[source.offset : end])
        tasks: list[tuple[Piece, Bytes, int]] = []
        on_devices: dict[Device, list[tuple[torch.Tensor, Piece]]] = {}
        for source, piece in zip(self._sources, self.pieces[1:], strict=True):
            if device := self._devices.of(source.data):
                on_devices.setdefault(device, []).append((source.data, piece))
            else:
                data = tensors.host_bytes(source.data)
                tasks += [(piece, data, first) for first in piece.tasks()]
        for device, pairs in on_devices.items():
            _fetch(device, pairs)
        return tasks

    def _copy(self, data: torch.Tensor, target: Bytes) -> None:
        if device := self._devices.of(data):
            device.fetch(data, target)
        else:
            target[:] = tensors.host_bytes(data)


def _fetch(device: Device, pairs: Sequence[tuple[torch.Tensor, Piece]]) -> None:
    """Begin to copy what changed of a device's tensors."""
    digests = device.digests([data for data, _ in pairs])
    for i, (data, piece) in enumerate(pairs):
        if digests is not None:
            piece.recognise(digests[i])
        piece.fetch(data, device)


def _runs(stale: Mask, first: int, last: int) -> Iterator[slice]:
    """Ranges of consecutive blocks that are stale, none of them long."""
    found = np.flatnonzero(stale[first:last]) + first
    for part in np.split(found, np.flatnonzero(np.diff(found) != 1) + 1):
        for at in range(0, len(part), _RUN_BLOCKS):
            yield slice(int(part[at]), int(part[min(at + _RUN_BLOCKS, len(part)) - 1]) + 1)


def _bytes_of(rows: slice) -> slice:
    return slice(rows.start * BLOCK_BYTES, rows.stop * BLOCK_BYTES)


def _ends(rows: slice, size: int) -> Offsets:
    """Where each of these blocks ends in their `size` bytes."""
    ends: Offsets = np.minimum(np.arange(1, rows.stop - rows.start + 1) * BLOCK_BYTES, size)
    return ends
