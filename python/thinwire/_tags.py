"""Tags of operations: every use of one is an operation of its own, with the same number on all ranks."""

from __future__ import annotations

from collections.abc import Hashable

from thinwire import _core
from thinwire.errors import InvalidArgument


class Tags:
    """Counts the uses of tags. Else frames of a tag's next use could reach a rank in the last one."""

    def __init__(self) -> None:
        self._under_way: list[tuple[int, _core.Operation]] = []
        self._uses: dict[int, int] = {}

    def uses(self, number: int, label: str) -> int:
        """Return how often a tag was used. Raises InvalidArgument where its last use is not over."""
        self._under_way = [entry for entry in self._under_way if not entry[1].is_over()]
        if any(number == other for other, _ in self._under_way):
            raise InvalidArgument(f"{label} is under way; wait for it, or take another tag")
        return self._uses.get(number, 0)

    def add(self, number: int, operation: _core.Operation) -> None:
        """Note that an operation has begun."""
        self._uses[number] = self._uses.get(number, 0) + 1
        self._under_way.append((number, operation))


def number_of(tag: Hashable) -> int:
    """Return the number of a tag: itself, or a hash of its text."""
    return tag if isinstance(tag, int) and 0 <= tag < 2**64 else _core.xxh3_64(repr(tag).encode())
