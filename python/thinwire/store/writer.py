"""Writing one version of a name: chunks at once and in the background, the name only at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from thinwire import _core
from thinwire._chunking import Chunker, Profile
from thinwire._memory import allocate, batches, byte_view, fill
from thinwire.errors import InvalidArgument
from thinwire.store import index as indexes
from thinwire.store.catalog import Catalog
from thinwire.store.coding import MOST_CHUNK_BYTES
from thinwire.store.index import CHUNK, Chunks, Ids
from thinwire.store.leases import Lease
from thinwire.store.manifest import Manifest
from thinwire.store.metering import UNHEARD
from thinwire.store.packer import Packer, Workers
from thinwire.store.refs import Ref, Refs

BLOCK_BYTES = 16 << 20
"""Work on a buffer or a stream goes on in blocks of about this size."""

Ends = np.ndarray[Any, np.dtype[np.int64]]
Cuts: TypeAlias = Profile | str | Ends
Blocks = Iterator[tuple[memoryview, Ends]]


class Writer:
    """Adds chunks to a store and commits them as one new version of `name`. Not for several threads at once.

    A context manager: leaving it without `commit` gives it up, and a collector removes what was written.
    Made by `Store.writer`.
    """

    def __init__(
        self,
        catalog: Catalog,
        workers: Workers,
        refs: Refs,
        lease: Lease,
        name: str,
        *,
        level: int,
        expect: int | None,
    ) -> None:
        self._catalog, self._workers, self._refs, self._lease = catalog, workers, refs, lease
        self._name, self._expect = name, expect
        self._packer = Packer(catalog.backend, catalog.keys, workers, level, lease.heartbeat)
        self._index, self._usable = catalog.usable()  # the lease is open: a pack condemned from now on waits
        self._added: set[bytes] = set()
        self.meter = UNHEARD
        self._broken = False
        self.new_bytes = 0
        """Bytes of the chunks that the store did not have."""

    def add(self, data: Any, cuts: Cuts = "native", *, element_size: int | None = None) -> Chunks:
        """Store a buffer. `cuts` is a profile, or int64 end offsets of the chunks.

        Chunks that the store has are not written again; the others are compressed and written in the
        background, so the buffer must stay as it is until `commit` or `flush`. `element_size` (2 or 4) tells
        that the buffer holds floats of so many bytes. Returns the chunks, dtype CHUNK: what `commit` takes.
        """
        view = byte_view(data, "data")
        if isinstance(cuts, np.ndarray):
            return self._add_all(_blocks(view, _checked(cuts, len(view))), element_size)
        return self._add_all(_cut(view, cuts), element_size)

    def add_stream(self, read_into: Callable[[memoryview], int], profile: Profile | str = "native") -> Chunks:
        """Store what `read_into` fills buffers with, until it returns 0. Memory stays within some blocks."""
        return self._add_all(_cut_stream(read_into, profile), None)

    def known(self, ids: Ids) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which chunks need not be added: the store has them, or they were added before."""
        found = self._index.find(ids, self._usable) >= 0
        for i in np.flatnonzero(~found):
            found[i] = ids[i].tobytes() in self._added
        return found

    def flush(self) -> None:
        """Wait until all chunks so far are durable and in the index. What is cut off goes on from there."""
        with self._whole(), self._packer.drained() as rows:
            self._catalog.publish(indexes.segment_of(rows))

    def commit(
        self,
        metadata: Mapping[str, Any],
        chunks: Chunks,
        *,
        version: int | None = None,
        origin: Mapping[str, str] | None = None,
    ) -> Ref:
        """Make these chunks, in this order, a new version of the name. Durable when it returns.

        `metadata` is JSON. `origin` is for `sync`: see `Manifest`. Raises Conflict where `expect` was given
        and is not the newest version any more, or `version` (which asks for that very number) cannot be had;
        StoreError where a collector took this writer for dead.
        """
        made = Manifest(metadata, np.ascontiguousarray(chunks, CHUNK), origin)
        self._check_chunks(made.chunks)
        self.flush()
        with self._whole():
            ref = self._refs.publish(
                self._name,
                self._lease,
                lambda number: self._catalog.write_manifest(made, self._name, number),
                expect=self._expect,
                version=version,
            )
            self._lease.commit()
            return ref

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._packer.__exit__(kind, error, trace)
        self._lease.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Work that goes wrong half-way leaves chunks that look added and are not: nothing comes after it."""
        if self._broken or self._lease.ended:
            state = "failed before" if self._broken else "has ended"
            raise InvalidArgument(f"this writer of {self._name} {state}; make another")
        self._broken = True
        yield
        self._broken = False

    def _add_all(self, blocks: Blocks, element_size: int | None) -> Chunks:
        with self._whole():
            made = [self._add_block(view, ends, element_size) for view, ends in blocks]
        return np.concatenate(made) if made else np.zeros(0, CHUNK)

    def _add_block(self, view: memoryview, ends: Ends, element_size: int | None) -> Chunks:
        chunks = np.zeros(len(ends), CHUNK)
        chunks["id"] = _core.blake3_blocks(view, ends, self._catalog.keys.id_key, self._workers.threads)
        chunks["size"] = np.diff(ends, prepend=0)
        begins = ends - chunks["size"].astype(np.int64)
        for i in np.flatnonzero(self._index.find(chunks["id"], self._usable) < 0):
            if (chunk := chunks["id"][i].tobytes()) not in self._added:
                self._added.add(chunk)
                self._packer.put(chunk, view[begins[i] : ends[i]], element_size)
                self.new_bytes += int(ends[i] - begins[i])
        self.meter.add(len(view))
        return chunks

    def _check_chunks(self, chunks: Chunks) -> None:
        if not self.known(chunks["id"]).all():
            raise InvalidArgument("chunks has some that this writer did not add and the store does not have")


def _checked(ends: Ends, size: int) -> Ends:
    ends = np.ascontiguousarray(ends, np.int64)
    sizes = np.diff(ends, prepend=0)
    if (len(ends) and int(ends[-1])) != size or not ((sizes > 0) & (sizes <= MOST_CHUNK_BYTES)).all():
        raise InvalidArgument(
            f"cuts must ascend from above 0 to the size of data, {size}, by at most {MOST_CHUNK_BYTES} bytes"
        )
    return ends


def _blocks(view: memoryview, ends: Ends) -> Blocks:
    """Whole chunks, about a block at a time; ends count from the block's begin."""
    begin = 0
    for rows in batches(np.diff(ends, prepend=0), BLOCK_BYTES):
        end = int(ends[rows][-1])
        yield view[begin:end], ends[rows] - begin
        begin = end


def _chunker(profile: Profile | str) -> Chunker:
    chunker = Chunker(profile)
    if chunker.profile.max > MOST_CHUNK_BYTES:
        raise InvalidArgument(
            f"max of profile {chunker.profile} is above {MOST_CHUNK_BYTES}, the most bytes of a chunk"
        )
    return chunker


def _cut(view: memoryview, profile: Profile | str) -> Blocks:
    """Cut a buffer block by block, so that its first chunks are written while the others are looked for."""
    chunker = _chunker(profile)
    begin = 0
    for at in range(0, len(view), BLOCK_BYTES):
        ends = chunker.update(view[at : at + BLOCK_BYTES])
        if at + BLOCK_BYTES >= len(view):
            ends = np.concatenate([ends, chunker.finish()])
        if len(ends):
            yield view[begin : int(ends[-1])], ends - begin
            begin = int(ends[-1])


def _cut_stream(read_into: Callable[[memoryview], int], profile: Profile | str) -> Blocks:
    """Cut a stream; what follows the last cut of a block is carried into the next."""
    chunker = _chunker(profile)
    begin, carried = 0, memoryview(b"")
    while True:
        block = allocate(len(carried) + BLOCK_BYTES)
        block[: len(carried)] = carried
        got = fill(block[len(carried) :], read_into)
        block = block[: len(carried) + got]
        ends = chunker.update(block[len(carried) :])
        if got < BLOCK_BYTES:
            ends = np.concatenate([ends, chunker.finish()])
        if len(ends):
            end = int(ends[-1]) - begin
            yield block[:end], ends - begin
            begin, carried = begin + end, block[end:]
        else:
            carried = block
        if got < BLOCK_BYTES:
            return
