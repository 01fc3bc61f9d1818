"""Pinning memory of somebody else's where it lies."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from thinwire import _core
from thinwire._buffers import raw_bytes
from thinwire._sizes import format_size
from thinwire.errors import InvalidArgument

_log = logging.getLogger("thinwire.pool")


class Registration:
    """An array's memory, pinned in place; `register_` makes it. It keeps the array until `release`.

    A context manager, which releases it. `address`, `nbytes`: of the memory. `reason`: why the tier is no
    higher one, or empty.
    """

    def __init__(self, array: Any) -> None:
        memory = raw_bytes(array, "array")
        if not memory.count:
            raise InvalidArgument("array has no bytes that could be pinned")
        self.address, self.nbytes = memory.address, memory.count
        is_read_only = isinstance(memory.owner, np.ndarray) and not memory.owner.flags.writeable
        self._range = _core.PinnedRange(self.address, self.nbytes, is_read_only)
        self.reason = self._range.reason
        self._array: Any = memory.owner
        self._end = self._when_gone(array)
        if self.tier == "plain":
            _log.warning("an array of %s stays %s: %s", format_size(self.nbytes), self.tier, self.reason)

    def _when_gone(self, array: Any) -> Callable[[], object]:
        """Returns what ends the registration, and sees to it that it is called before the memory goes."""
        while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
            array = array.base  # a view may die long before the memory
        try:
            end = weakref.finalize(array, self._range.release)
        except TypeError:  # such as bytearray
            end = weakref.finalize(self, self._range.release)
        end.atexit = False  # the kernel and the driver undo it with the process
        return end

    @property
    def tier(self) -> str:
        """ "registered" with the CUDA driver, "mlocked", or "plain", as after `release`."""
        return self._range.tier

    def release(self) -> None:
        """Ends it; the second time it does nothing."""
        self._end()
        self._array = None

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def register_(array: Any) -> Registration:
    """Pins an array's memory where it lies: an array, tensor, memory map or buffer in host memory.

    With the CUDA driver where there is a GPU; else it is locked into memory, as far as RLIMIT_MEMLOCK allows.
    Where neither is possible nothing changes: `tier` is "plain", and the reason is logged (logger
    "thinwire.pool"). It ends with `Registration.release`, with a `with` block, or when the array dies (of a
    NumPy view: the array that it is a view of).

    Raises InvalidArgument for what is not contiguous, not in host memory, or has no bytes.
    """
    return Registration(array)


__all__ = ["Registration", "register_"]
