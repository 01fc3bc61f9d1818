"""Arrays in the memory of a HostPool, seen through other libraries' eyes. Nothing is copied."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire import _core
from thinwire._streams import current_streams, handle_of
from thinwire.errors import InvalidArgument

ALIGNMENT = 64
"""Bytes: where arrays begin unless more is asked for. A cache line, and the width of AVX-512."""
_BFLOAT16 = "bfloat16"
_BYTES = "uint8"
_DLPACK_CPU = 1
_NUMBER_KINDS = "biufc"  # of NumPy's dtypes
_ADDRESS_SPACE = 2**48

Shape = int | tuple[int, ...] | list[int]


class _Element(NamedTuple):
    """The type of an array's values."""

    name: str
    item_bytes: int
    format: str  # as in the module struct


class HostArray(_core.HostBlock):
    """An array in a pool's memory: C-contiguous, writable, with any values at first; see `HostPool.empty`.

    Every view (`memoryview(a)`, `numpy.asarray(a)`, `a.torch()`, ...) is of the same memory and keeps it. The
    memory goes back to the pool when the array and its last view have died, whichever thread that is in.

    `shape`: a tuple. `dtype`: a name, "float32" or "bfloat16". `nbytes`: of all values. `address`: of the
    first. `tier`: what is known of the memory now: "plain", "huge" (mostly huge pages), "mlocked", or
    "registered" with the CUDA driver; only the last is called pinned.
    """

    dtype = ""

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"HostArray(shape={self.shape}, dtype={self.dtype!r})"

    def numpy(self) -> NDArray[Any]:
        """A NumPy array of the same memory. Of bfloat16, which NumPy lacks, it has the bits: uint16."""
        return np.asarray(memoryview(self))  # which, unlike the array, cannot be taken for an object

    def torch(self) -> Any:
        """A torch tensor of the same memory. torch calls it pinned where the tier is "registered".

        Raises ModuleNotFoundError without torch, InvalidArgument for a dtype that it does not have.
        """
        torch: Any = _imported("torch", "pip install torch")
        dtype = getattr(torch, self.dtype, None)
        if dtype is None:
            raise InvalidArgument(f"torch has no dtype {self.dtype}; pass uint8 and view its bytes")
        return torch.from_numpy(self.numpy().reshape(-1).view(np.uint8)).view(dtype).view(self.shape)

    def cupy(self) -> Any:
        """A `cupy.cuda.PinnedMemoryPointer` of the same memory, as CuPy's own allocator returns it.

        A CuPy array lies on a GPU and cannot be a view of host memory; copy with
        `cupy_array.set(a.numpy(), stream)` and `cupy_array.get(stream, out=a.numpy())`.
        Raises ModuleNotFoundError without CuPy.
        """
        cupy: Any = _imported("cupy", "pip install 'thinwire[cupy-cuda12x]'")
        return cupy.cuda.PinnedMemoryPointer(_CupyMemory(self), 0)

    def __dlpack__(self, **options: Any) -> Any:
        """The capsule of `numpy()`, or of bfloat16 that of `torch()`, since NumPy's cannot say bfloat16."""
        view = self.torch() if self.dtype == _BFLOAT16 else self.numpy()
        return view.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU, 0

    def record_stream(self, stream: Any) -> None:
        """Says that work on a GPU stream uses the memory: it is not used again before that work is done.

        `stream`: torch's or CuPy's. Streams that are current when the last view dies are known without it.
        Raises InvalidArgument for anything else.
        """
        self.wait_for_stream(*handle_of(stream))


class StreamedArray(HostArray):
    """A HostArray where there is a GPU: the streams that are current when it dies may still use it."""

    def free(self) -> bool:
        self._wait_for_current_streams()
        return super().free()

    def __del__(self) -> None:
        if self.dtype:  # else there is no memory: the pool was exhausted
            with suppress(Exception):  # an interpreter that ends has taken modules apart
                self._wait_for_current_streams()

    def _wait_for_current_streams(self) -> None:
        for device, stream in current_streams():
            self.wait_for_stream(device, stream)


def make_array(pool: _core.HostPool, shape: Shape, dtype: Any, alignment: int) -> HostArray:
    """Returns `HostPool.empty` of a pool."""
    element = _element(dtype)
    sizes = _checked_shape(shape, element.item_bytes)
    kind = StreamedArray if pool.has_streams else HostArray
    array = kind(pool, sizes, element.item_bytes, element.format, _checked_alignment(alignment))
    array.dtype = element.name
    return array


def shared_block(nbytes: int) -> _core.HostBlock:
    """A buffer of bytes in the process's pool. Raises PoolExhausted."""
    pool = _core.HostPool.shared()
    if pool.has_streams:  # a copy to the device, from memory that is registered, may outlive the buffer
        return make_array(pool, nbytes, _BYTES, ALIGNMENT)
    return _core.HostBlock(pool, [nbytes], 1, "B", ALIGNMENT)  # faster


class _CupyMemory:
    """What CuPy takes for a `cupy.cuda.PinnedMemory`. It keeps the array."""

    def __init__(self, array: HostArray) -> None:
        self._array = array
        self.ptr = array.address
        self.size = array.nbytes

    def __int__(self) -> int:
        return self.ptr


def _imported(module: str, remedy: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"this needs {module}, which is not installed: {remedy}"
        raise ModuleNotFoundError(message, name=module) from error


def _element(dtype: Any) -> _Element:
    """The element of a dtype: a name, NumPy's or torch's. Raises InvalidArgument."""
    try:
        return _known_element(dtype)
    except TypeError:  # a structure's description, as a list or a dict
        raise _no_element(dtype) from None


@lru_cache(maxsize=256)
def _known_element(dtype: Any) -> _Element:
    name = str(dtype).removeprefix("torch.")
    if name == _BFLOAT16:
        return _Element(name, 2, "H")
    try:
        found: np.dtype[Any] = np.dtype(dtype if name == str(dtype) and dtype is not None else name)
    except TypeError:
        raise _no_element(dtype) from None
    if found.kind not in _NUMBER_KINDS or not found.isnative:
        raise _no_element(dtype)
    return _Element(found.name, found.itemsize, np.empty(0, found).data.format)


def _no_element(dtype: Any) -> InvalidArgument:
    return InvalidArgument(
        f"the dtype is {dtype}; a pool's arrays hold bool, integers, floats, complex numbers or bfloat16, "
        "in this machine's byte order"
    )


def _checked_shape(shape: Shape, item_bytes: int) -> list[int]:
    try:
        sizes = [operator.index(size) for size in (shape if isinstance(shape, (tuple, list)) else [shape])]
    except TypeError:
        raise InvalidArgument(f"shape is {shape!r}; pass an integer, or a tuple of integers") from None
    if min(sizes, default=0) < 0:
        raise InvalidArgument(f"shape is {shape!r}; a size cannot be negative")
    if math.prod(max(size, 1) for size in sizes) * item_bytes >= _ADDRESS_SPACE:
        raise InvalidArgument(f"shape is {shape!r}, which is more than a machine can address")
    return sizes


def _checked_alignment(alignment: int) -> int:
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise InvalidArgument(f"alignment is {alignment!r}; pass a power of two")
    return alignment


__all__ = ["ALIGNMENT", "HostArray", "Shape", "StreamedArray", "make_array"]
