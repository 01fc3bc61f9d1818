"""A backend in memory that can be damaged, copied and made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from store_world import MemoryBackend
from thinwire.store.backend import Buffer, Entry


class FaultyBackend(MemoryBackend):
    """`before(operation, path)` is called before everything, and may raise; `reads` are the paths read."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str, str], None] = lambda operation, path: None
        self.reads: list[str] = []
        self._lock = threading.Lock()

    def copy(self, changed: str | None = None, data: bytes | None = None) -> FaultyBackend:
        """The same objects, but for one that is changed, or gone where `data` is None."""
        made = FaultyBackend()
        made.objects = dict(self.objects)
        if changed is not None:
            del made.objects[changed]
            if data is not None:
                made.objects[changed] = (data, 0.0)
        return made

    def paths(self, kind: str) -> list[str]:
        return sorted(path for path in self.objects if path.startswith(f"{kind}/"))

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        self.before("read", path)
        self.reads.append(path)
        return super().read(path, offset, size)

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        self.before("create", path)
        with self._lock:
            super().create(path, parts)
        self.before("created", path)

    def list(self, prefix: str) -> Iterator[Entry]:
        self.before("list", prefix)
        with self._lock:
            return iter([*super().list(prefix)])

    def delete(self, path: str) -> None:
        self.before("delete", path)
        with self._lock:
            super().delete(path)

    def map(self, path: str) -> Any:
        return None
