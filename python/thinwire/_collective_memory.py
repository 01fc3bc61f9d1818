"""The arrays of a collective: where they lie, and what its result goes into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thinwire._buffers import View, view
from thinwire.errors import InvalidArgument


def memory_of(array: Any, what: str, *, writable: bool = False) -> View:
    """Return the host memory of an array. Raises InvalidArgument for anything else."""
    found = view(array, what, writable=writable)
    if found.device >= 0:
        raise InvalidArgument(f"{what} lies on CUDA device {found.device}; a communicator takes host memory")
    return found


def result_of(out: Any, source: View, shape: tuple[int, ...], count: int) -> tuple[Any, View]:
    """Return the array for a result, and its memory."""
    x = source.owner
    if out is x and count == source.count:
        return out, source if _is_writable(x) else memory_of(out, "out", writable=True)
    if out is None:
        out = x.new_empty(shape) if hasattr(x, "new_empty") else np.empty(shape, getattr(x, "dtype", None))
    target = memory_of(out, "out", writable=True)
    if target.count != count:
        raise InvalidArgument(f"out has {target.count} values, the result {count}")
    if target.dtype != source.dtype:
        raise InvalidArgument(f"x is {source.dtype}, out {target.dtype}; they must be of one dtype")
    return out, target


def _is_writable(x: Any) -> bool:
    return not isinstance(x, np.ndarray) or bool(x.flags.writeable)


def restorer(x: Any) -> Callable[[], None]:
    """Return what gives x its present values back."""
    copy = x.clone() if hasattr(x, "clone") else np.array(x)

    def restore() -> None:
        x[...] = copy

    return restore


def value_bytes(source: View) -> int:
    """Return the bytes of one value: 1 where there is none, or where values have no bytes."""
    return max(int(source.owner.nbytes // source.count), 1) if source.count else 1


def part(count: int, rank: int, ranks: int) -> int:
    """Return how many of `count` values rank `rank` gets where they are divided as evenly as possible."""
    return count // ranks + (rank < count % ranks)
