"""A fast place before a slow one: what was read once is read from there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from thinwire.errors import StoreError
from thinwire.store.backend import Backend, Buffer, Entry

_KEPT = ("packs/", "index/", "manifests/")  # objects whose names never stand for anything else


class CachedBackend:
    """Reads from `fast` what it has, and keeps there what `slow` had to give.

    Only `slow` counts: nothing is listed, and nothing known to exist, from `fast`.
    """

    def __init__(self, slow: Backend, fast: Backend) -> None:
        self._slow, self._fast = slow, fast

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        if self._keep(path):
            with contextlib.suppress(StoreError):
                return self._fast.read(path, offset, size)
        return self._slow.read(path, offset, size)

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        if self._keep(path):
            with contextlib.suppress(StoreError):
                return self._fast.read_into(path, offset, buffer)
        return self._slow.read_into(path, offset, buffer)

    def evict(self, path: str) -> bool:
        """Drop what was kept of an object, as it is damaged. False where nothing was."""
        kept = self._fast.exists(path)
        self._fast.delete(path)
        return kept

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        self._slow.create(path, parts)
        if path.startswith(_KEPT):
            with contextlib.suppress(StoreError):
                self._fast.create(path, parts)

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._slow.list(prefix)

    def delete(self, path: str) -> None:
        self._slow.delete(path)
        self._fast.delete(path)

    def exists(self, path: str) -> bool:
        return self._slow.exists(path)

    def age(self, path: str) -> float:
        return self._slow.age(path)

    def map(self, path: str) -> memoryview | None:
        return self._slow.map(path)

    def tidy(self, older_than_s: float) -> None:
        self._slow.tidy(older_than_s)
        self._fast.tidy(older_than_s)

    def _keep(self, path: str) -> bool:
        """Fetch an object into the fast place; whether it should be there now."""
        if not path.startswith(_KEPT):
            return False
        if not self._fast.exists(path):
            data = self._slow.read(path)
            with contextlib.suppress(StoreError):  # no space, or another thread was faster
                self._fast.create(path, [data])
        return True
