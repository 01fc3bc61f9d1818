"""Buffers as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from thinwire._host_array import shared_block
from thinwire.errors import InvalidArgument


def allocate(size: int) -> memoryview:
    """Memory of the process's pool, not initialised. Raises PoolExhausted."""
    return memoryview(shared_block(size))


def byte_view(data: Any, what: str, *, writable: bool = False) -> memoryview:
    """The memory of a buffer or array as bytes; nothing is copied. Raises InvalidArgument."""
    try:
        if isinstance(data, np.ndarray):  # whose dtype may be none of the buffer protocol's, as bfloat16
            if not data.flags.c_contiguous:
                raise InvalidArgument(f"{what} is not contiguous; pass numpy.ascontiguousarray({what})")
            view = data.reshape(-1).view(np.uint8).data
        else:
            view = memoryview(data)
            if not view.c_contiguous:
                raise InvalidArgument(f"{what} is not contiguous; pass a copy")
            view = view.cast("B") if view.nbytes else memoryview(bytearray())
    except TypeError:
        raise InvalidArgument(
            f"{what} is a {type(data).__name__}; pass bytes, a NumPy array or another object with the buffer "
            "protocol (a torch tensor: its .view(torch.uint8).numpy())"
        ) from None
    if writable and view.readonly:
        raise InvalidArgument(f"{what} is read-only")
    return view


def fill(memory: memoryview, read_into: Callable[[memoryview], int | None]) -> int:
    """Fill memory by calls of `read_into`, which says how many bytes it wrote; the bytes in all.

    They are fewer than there is room for only where `read_into` had no more.
    """
    done = 0
    while done < len(memory) and (got := read_into(memory[done:])):
        done += got
    return done


def batches(sizes: Any, most: int) -> Iterator[slice]:
    """Ranges of consecutive items of together at most `most` bytes; an item that is larger stands alone."""
    ends = np.cumsum(sizes, dtype=np.int64)
    first = begin = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, begin + most, side="right")))
        yield slice(first, last)
        first, begin = last, int(ends[last - 1])
