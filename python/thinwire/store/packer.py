"""Chunks into packs, in the background: coding and encryption on one pool of threads, writing on another."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from types import TracebackType

from thinwire.errors import StoreError
from thinwire.store import coding, pack
from thinwire.store.backend import Backend, is_no_space
from thinwire.store.index import PackRow
from thinwire.store.pack import PackWriter, SealedRecord
from thinwire.store.sealing import Keys

GROUP_BYTES = 2 << 20  # coded as one piece of work
_MOST_WAITING_BYTES = 64 << 20  # of chunks not coded yet
_MOST_PACK_CHUNK_BYTES = 1 << 30  # of chunks in one pack, however well they compress

Chunk = tuple[bytes, memoryview]
Group = list[Chunk]


class Workers:
    """The threads of one store. Coders never wait for writers, so the two cannot hold each other up."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.coders = ThreadPoolExecutor(self.threads, "thinwire-code")
        self.writers = ThreadPoolExecutor(self.threads + 1, "thinwire-write")

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self.coders.shutdown(cancel_futures=True)
        self.writers.shutdown(cancel_futures=True)


class Packer:
    """Takes chunks, and makes durable packs of them.

    `beat` is called now and then, on the caller's thread. Buffers stay as they are until `drained` begins.

    A context manager: leaving it drops what was not written, and waits for what is being written. Where an
    error says that no space is left, packs that were not published, and so are of no use, are deleted.
    """

    def __init__(
        self, backend: Backend, keys: Keys, workers: Workers, level: int, beat: Callable[[], None]
    ) -> None:
        self._backend, self._keys, self._workers, self._level, self._beat = (
            backend,
            keys,
            workers,
            level,
            beat,
        )
        self._group: Group = []
        self._group_bytes = 0
        self._element_size: int | None = None
        self._waiting: deque[tuple[Future[list[SealedRecord]], int]] = deque()
        self._packs: deque[Future[PackRow]] = deque()
        self._rows: list[PackRow] = []
        self._begin_pack()

    def put(self, chunk: bytes, data: memoryview, element_size: int | None) -> None:
        """Take one chunk; waits where too much is on its way."""
        if self._group_bytes + len(data) > GROUP_BYTES or element_size != self._element_size:
            self._submit_group()
        self._element_size = element_size
        self._group.append((chunk, data))
        self._group_bytes += len(data)

    @contextlib.contextmanager
    def drained(self) -> Iterator[list[PackRow]]:
        """Wait until everything is durable; the packs since the last time, which the body publishes."""
        self._submit_group()
        self._submit_pack()
        self._settle(0)
        yield self._rows
        self._rows = []

    def __enter__(self) -> Packer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for coded, _ in self._waiting:
            coded.cancel()
        for written in self._packs:
            if not written.cancel() and written.exception() is None:
                self._rows.append(written.result())
        self._packs.clear()
        if is_no_space(error):
            for row in self._rows:
                with contextlib.suppress(StoreError):  # a collector finds it
                    self._backend.delete(pack.path_of(row.id))

    def _begin_pack(self) -> None:
        self._pack = PackWriter(self._keys)
        self._groups: list[tuple[Future[list[SealedRecord]], int]] = []

    def _submit_group(self) -> None:
        if not self._group:
            return
        self._wait_for_coders()
        first = self._pack.reserve(len(self._group))
        job = self._workers.coders.submit(
            _code, self._pack, first, self._group, self._level, self._element_size
        )
        self._groups.append((job, self._group_bytes))
        self._waiting.append((job, self._group_bytes))
        self._group, self._group_bytes = [], 0
        raw = sum(size for _, size in self._groups)
        if raw >= pack.TARGET_BYTES and (
            raw >= _MOST_PACK_CHUNK_BYTES or self._expected() >= pack.TARGET_BYTES
        ):
            self._submit_pack()

    def _wait_for_coders(self) -> None:
        self._beat()
        while sum(size for _, size in self._waiting) > _MOST_WAITING_BYTES:
            self._waiting[0][0].result()
            self._drop_coded()
        self._drop_coded()

    def _drop_coded(self) -> None:
        while self._waiting and self._waiting[0][0].done():
            self._waiting.popleft()

    def _expected(self) -> int:
        """How long the open pack will be, as far as it is known."""
        return sum(
            sum(record.stored for record in job.result()) if job.done() else size
            for job, size in self._groups
        )

    def _submit_pack(self) -> None:
        if not self._groups:
            return
        jobs = [job for job, _ in self._groups]
        self._packs.append(self._workers.writers.submit(_write, self._backend, self._pack, jobs))
        self._begin_pack()
        self._settle(self._workers.threads)

    def _settle(self, most: int) -> None:
        """Take finished packs, until at most `most` are on their way."""
        while self._packs and (len(self._packs) > most or self._packs[0].done()):
            self._beat()
            self._rows.append(self._packs.popleft().result())


def _code(
    writer: PackWriter, first: int, group: Group, level: int, element_size: int | None
) -> list[SealedRecord]:
    return [
        writer.seal(first + i, chunk, len(data), coding.encode(data, level, element_size))
        for i, (chunk, data) in enumerate(group)
    ]


def _write(backend: Backend, writer: PackWriter, jobs: list[Future[list[SealedRecord]]]) -> PackRow:
    sealed: Iterator[SealedRecord] = chain.from_iterable(job.result() for job in jobs)
    made = writer.finish(sealed)
    backend.create(pack.path_of(made.id), made.parts)
    return PackRow(made.id, made.salt, made.size, made.records)
