"""How far long work has come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, "int | None"], None]
"""Called with the bytes done, and those to do, or None where nobody knows these."""


class Meter:
    """Adds up what is done and tells it. Safe for several threads: one at a time calls the callback."""

    def __init__(self, progress: Progress | None, total: int | None = None) -> None:
        self._progress, self._total = progress, total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """So many more bytes are done."""
        if self._progress:
            with self._lock:
                self._done += count
                self._progress(self._done, self._total)


UNHEARD = Meter(None)
"""For work that nobody follows."""
