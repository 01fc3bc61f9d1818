"""A fast disk before a slow place: what was written or read lately is read from there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from thinwire.errors import CorruptChunk, InvalidArgument, StoreError
from thinwire.store.backend import CONFIG, Backend, Buffer, Entry, check_path
from thinwire.store.local import LocalBackend
from thinwire.store.locations import MARKER

_KEPT = ("packs/", "index/", "manifests/")
"""Objects whose names never stand for anything else. Whoever reads them knows whether they are sound."""

_LOOKS = 16  # at the disk, while as much as its limit is written to it
_FETCHES = 64  # of objects at the same time

_Result = TypeVar("_Result")


class CachedBackend:
    """Reads from the folder `fast` what it has, and keeps there what `slow` had to give, or was given.

    Only `slow` counts: nothing is listed, and nothing known to exist, from `fast`. What was not used for
    longest goes when there are more than `limit` bytes.
    """

    def __init__(self, slow: Backend, fast: Path, limit: int | None = None) -> None:
        self._slow, self._fast, self._limit = slow, LocalBackend(fast), limit
        if self._fast.exists(CONFIG) or self._fast.exists(MARKER):
            raise InvalidArgument(f"{fast} belongs to a store; a cache needs a folder of its own")
        self._added = limit or 0  # bytes since the last look: the first object leads to one
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(_FETCHES)]

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        return self._do(path, lambda backend: backend.read(path, offset, size))

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        self._do(path, lambda backend: backend.read_into(path, offset, buffer))

    def evict(self, path: str) -> bool:
        """Drop what was kept of an object, as it is damaged. False where nothing was."""
        kept = self._fast.exists(path)
        with contextlib.suppress(StoreError):
            self._fast.delete(path)
        return kept

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        self._slow.create(path, parts)
        if path.startswith(_KEPT):
            self._add(path, parts)

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._slow.list(prefix)

    def delete(self, path: str) -> None:
        self._slow.delete(path)
        self.evict(path)

    def exists(self, path: str) -> bool:
        return self._slow.exists(path)

    def age(self, path: str) -> float:
        return self._slow.age(path)

    def map(self, path: str) -> memoryview | None:
        return self._slow.map(path)

    def tidy(self, older_than_s: float) -> None:
        self._slow.tidy(older_than_s)
        there = {entry.path for kind in _KEPT for entry in self._slow.list(kind)}
        with contextlib.suppress(StoreError):
            self._fast.tidy(older_than_s)
            for file in self._files():
                if file.path not in there:
                    self._fast.delete(file.path)

    def _do(self, path: str, work: Callable[[Backend], _Result]) -> _Result:
        """Work with an object in the fast place, or else in the slow one."""
        if path.startswith(_KEPT):
            with contextlib.suppress(StoreError):  # it was dropped just now
                self._fetch(path)
                try:
                    return work(self._fast)
                except CorruptChunk:  # it is cut off
                    self.evict(path)
                    self._fetch(path)
                    return work(self._fast)
        return work(self._slow)

    def _fetch(self, path: str) -> None:
        """See to it that an object is in the fast place, as the one that was used last."""
        if self._touch(path):
            return
        with self._fetching[hash(path) % _FETCHES]:  # so that one of many who want it asks for it
            if not self._fast.exists(path):
                self._add(path, [self._slow.read(path)])

    def _touch(self, path: str) -> bool:
        try:
            os.utime(self._fast.root / check_path(path))
        except FileNotFoundError:
            return False
        except OSError:  # another user's, or the disk only lets us read
            pass
        return True

    def _add(self, path: str, parts: Sequence[Buffer]) -> None:
        with contextlib.suppress(StoreError):  # no space, or another process was faster
            self._fast.create(path, parts)
        if self._limit is None:
            return
        with self._lock:
            self._added += sum(len(part) for part in parts)
            if self._added >= self._limit / _LOOKS:
                self._added = 0
                with contextlib.suppress(StoreError):
                    self._shrink(self._limit)

    def _shrink(self, limit: int) -> None:
        files = sorted(self._files(), key=lambda file: file.used, reverse=True)
        total = 0
        for file in files:
            total += file.size
            if total > limit:
                with contextlib.suppress(StoreError):
                    self._fast.delete(file.path)

    def _files(self) -> Iterator[_File]:
        for kind in _KEPT:
            for entry in self._fast.list(kind):
                with contextlib.suppress(OSError):  # another process dropped it
                    used = (self._fast.root / entry.path).stat().st_mtime
                    yield _File(entry.path, entry.size, used)


class _File(NamedTuple):
    """A kept object: its bytes, and when it was used last."""

    path: str
    size: int
    used: float
