"""A bound on what is under way."""

from __future__ import annotations

import threading


class InFlight:
    """Lets bytes pass as long as there are not too many; what alone is too many passes alone."""

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0
        self._changed = threading.Condition()

    def enter(self, count: int) -> None:
        """Wait until there is room. What is under way must leave by itself, within a deadline of its own."""
        with self._changed:
            self._changed.wait_for(lambda: not self._now or self._now + count <= self._most)
            self._now += count

    def leave(self, count: int) -> None:
        """Make room again."""
        with self._changed:
            self._now -= count
            self._changed.notify_all()
