"""Host memory that is taken once and used again: the pool (docs/pool.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from thinwire import _core
from thinwire._host_array import ALIGNMENT, HostArray, Shape, make_array
from thinwire._pool_stats import PoolStats
from thinwire._sizes import parse_size
from thinwire.errors import InvalidArgument

_log = logging.getLogger("thinwire.pool")
_THREAD_LIMIT = 2**16  # of what the native core can be asked for


class HostPool:
    """Host memory in blocks that are used again.

    `limit`: bytes that it takes from the system at most, as a number or a text like "4GiB"; None for what the
    machine and its control groups leave.
    `huge_pages`: try them, and keep them where first use is faster with them.
    `lock`: keep the memory from being paged out, as far as RLIMIT_MEMLOCK allows.
    `register_with_cuda`: pin the memory with the CUDA driver in the background, where there is a GPU.
    `threads`: that touch new memory; None for four, or every core where there are fewer.
    `decay_s`: memory that was not used for so many seconds goes back to the system; 0 keeps it.
    `hide_from_children`: leave the memory out of forked processes. They start faster, and one that reads an
    array of its parent is killed.

    A tier that cannot be had is no error: memory is of the next one, `HostArray.tier` says which, and the
    reason is logged (logger "thinwire.pool"; a warning with `lock`, else information) and is in `stats()`.

    Raises InvalidArgument for options out of range.
    """

    def __init__(
        self,
        limit: str | int | None = None,
        *,
        huge_pages: bool = True,
        lock: bool = False,
        register_with_cuda: bool = True,
        threads: int | None = None,
        decay_s: float = 10.0,
        hide_from_children: bool = False,
    ) -> None:
        if threads is not None and (not isinstance(threads, int) or not 0 < threads < _THREAD_LIMIT):
            raise InvalidArgument(f"threads is {threads!r}; pass an integer of 1 or more, or None")
        if not 0 <= decay_s < float("inf"):
            raise InvalidArgument(f"decay_s is {decay_s!r}; pass seconds, or 0 to keep unused memory")
        self._core = _core.HostPool(
            _limit_bytes(limit),
            huge_pages,
            lock,
            register_with_cuda,
            threads or 0,
            decay_s,
            hide_from_children,
        )
        self._watch(logging.WARNING if lock else logging.INFO)

    @staticmethod
    @cache
    def shared() -> HostPool:
        """The pool of this process, with default options, which thinwire's own parts use."""
        pool = object.__new__(HostPool)
        pool._core = _core.HostPool.shared()
        pool._watch(logging.INFO)
        return pool

    def _watch(self, level: int) -> None:
        """Begins to log reasons. What every pool tries is missed quietly, what was asked for is not."""
        self._level, self._explained, self._reasons = level, 0, set[str]()

    def empty(self, shape: Shape, dtype: Any = "uint8", alignment: int = ALIGNMENT) -> HostArray:
        """Returns an array with any values. `dtype`: a name, NumPy's, torch's; bool, numbers or bfloat16.

        It begins at a multiple of `alignment` bytes, a power of two up to 2 MiB. Raises PoolExhausted where
        the limit is too small or the system has no more; InvalidArgument for a shape or dtype that cannot be.
        """
        array = make_array(self._core, shape, dtype, alignment)
        self._log_reasons()
        return array

    def reserve(self, size: str | int) -> None:
        """Takes memory from the system now, touched by several threads, so that first use is fast.

        Raises PoolExhausted.
        """
        self._core.reserve(parse_size(size, "size"))
        self._log_reasons()

    def trim(self, keep: str | int = 0) -> int:
        """Gives unused memory back until the pool holds `keep` bytes; returns how many bytes went."""
        return self._core.trim(parse_size(keep, "keep"))

    def stats(self) -> PoolStats:
        """What the pool holds and has done. `str()` is a table."""
        return PoolStats(self._core.stats())

    def cupy_allocator(self) -> Callable[[int], Any]:
        """Returns what `cupy.cuda.set_pinned_memory_allocator` takes, so that CuPy stages its copies here."""

        def allocate(size: int) -> Any:
            return self.empty(size).cupy()

        return allocate

    def _log_reasons(self) -> None:
        """Logs why new memory is of a lower tier than was asked for, each reason once."""
        held = self._core.held
        if held > self._explained:
            self._explained = held
            for reason in self._core.reasons():
                if reason not in self._reasons:
                    self._reasons.add(reason)
                    _log.log(self._level, "%s", reason)


def _limit_bytes(limit: str | int | None) -> int:
    """As the native core takes it: 0 stands for what the machine leaves."""
    if limit is None:
        return 0
    size = parse_size(limit, "limit")
    if size == 0:
        raise InvalidArgument("limit is 0; pass a number of bytes, or None for what the machine leaves")
    return size


__all__ = ["HostPool"]
