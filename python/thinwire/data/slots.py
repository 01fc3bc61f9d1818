"""The memory that batches are read into."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire._host_array import shared_block


class Slot(NamedTuple):
    """An array in the process's pool. Its memory goes back when the last view of it has died."""

    array: NDArray[Any]
    address: int


def slot(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Slot:
    """Memory for a batch, not initialised."""
    block: Any = shared_block(math.prod(shape) * dtype.itemsize)
    return Slot(np.ndarray(shape, dtype, block), block.address)


def address_of(array: NDArray[Any]) -> int:
    """Where an array begins in memory."""
    address: int = array.ctypes.data
    return address
