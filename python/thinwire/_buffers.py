"""Arrays and tensors of any library, seen as address, length, dtype and device. Nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from thinwire._host_array import HostArray
from thinwire.errors import InvalidArgument

FP32, FP16, BF16 = 0, 1, 2
_UINT8 = "uint8"

_DTYPE_CODES = {"float32": FP32, "float16": FP16, "bfloat16": BF16}
DTYPE_NAMES = {code: name for name, code in _DTYPE_CODES.items()}
_ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

_NUMPY_NAMES = {np.dtype(name): name for name in ("float32", "float16", "uint8")}  # `dtype.name` is slow

_DLPACK_CPU_DEVICES = {1, 3, 11}  # plain, pinned by CUDA, pinned by ROCm
_DLPACK_CUDA_DEVICES = {2, 13}  # device memory, managed memory
# CUDA array interface and array protocol spellings. Neither has a bfloat16; libraries use two opaque bytes.
_TYPESTR_NAMES = {"<f4": "float32", "<f2": "float16", "|u1": "uint8", "<V2": "bfloat16", "|V2": "bfloat16"}


@dataclass(frozen=True)
class View:
    """Contiguous memory of one array. `device` is -1 for host memory, else the CUDA device's number."""

    address: int
    count: int
    dtype: str
    device: int
    owner: Any  # keeps the memory alive

    @property
    def dtype_code(self) -> int:
        """The frame's code of the dtype. Raises InvalidArgument for one that cannot be encoded."""
        try:
            return _DTYPE_CODES[self.dtype]
        except KeyError:
            raise InvalidArgument(
                f"the dtype is {self.dtype}; codecs take float32, float16 and bfloat16"
            ) from None


def view(array: Any, what: str, *, writable: bool = False) -> View:
    """The memory of a NumPy array, torch tensor, or anything with `__cuda_array_interface__`, `__dlpack__` or
    the buffer protocol. `what` names the argument in errors. Raises InvalidArgument if it is none of these,
    not contiguous, not aligned to its elements, or read-only where `writable` is asked for."""
    found = _view(array, what, writable)
    if found.count and not found.address:
        raise InvalidArgument(f"{what} is a {type(array).__name__} that has no memory of its own")
    if found.address % _ELEMENT_BYTES.get(found.dtype, 1):
        raise InvalidArgument(f"{what} starts between two addresses of {found.dtype} values; pass a copy")
    return found


def _view(array: Any, what: str, writable: bool) -> View:
    if isinstance(array, HostArray):
        return View(array.address, array.size, array.dtype, -1, array.numpy())
    if not isinstance(array, np.ndarray):
        if hasattr(array, "data_ptr") and hasattr(array, "is_contiguous"):
            return _torch_view(array, what)
        if hasattr(array, "__cuda_array_interface__"):
            return _cuda_view(array, what, writable)
        array = _as_numpy(array, what)
    if not array.flags.c_contiguous:
        raise InvalidArgument(f"{what} is not contiguous; pass numpy.ascontiguousarray({what})")
    if writable and not array.flags.writeable:
        raise InvalidArgument(f"{what} is read-only")
    return View(array.__array_interface__["data"][0], array.size, _numpy_dtype(array), -1, array)


def _torch_view(tensor: Any, what: str) -> View:
    if getattr(tensor, "is_sparse", False) or tensor.layout.__repr__() != "torch.strided":
        raise InvalidArgument(f"{what} is a sparse tensor; pass {what}.to_dense()")
    if not tensor.is_contiguous():
        raise InvalidArgument(f"{what} is not contiguous; pass {what}.contiguous()")
    if tensor.is_neg():
        raise InvalidArgument(f"{what} is a negated view of other memory; pass {what}.resolve_neg()")
    kind = tensor.device.type
    if kind not in ("cpu", "cuda"):
        raise InvalidArgument(f"{what} is on device '{kind}'; thinwire works on cpu and cuda")
    device = tensor.device.index if kind == "cuda" else -1
    return View(tensor.data_ptr(), tensor.numel(), str(tensor.dtype).removeprefix("torch."), device, tensor)


def _cuda_view(array: Any, what: str, writable: bool) -> View:
    interface = array.__cuda_array_interface__
    name = _TYPESTR_NAMES.get(interface["typestr"], interface["typestr"])
    if interface.get("strides") is not None and not _is_packed(interface, what):
        raise InvalidArgument(f"{what} is not contiguous; pass a contiguous copy")
    address, read_only = interface["data"]
    if writable and read_only:
        raise InvalidArgument(f"{what} is read-only")
    device = getattr(getattr(array, "device", None), "id", 0)
    return View(int(address), int(np.prod(interface["shape"], dtype=np.int64)), name, int(device), array)


def _is_packed(interface: Any, what: str) -> bool:
    expected = np.dtype(interface["typestr"]).itemsize
    for size, stride in zip(reversed(interface["shape"]), reversed(interface["strides"]), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _as_numpy(array: Any, what: str) -> np.ndarray[Any, Any]:
    if hasattr(array, "__dlpack_device__"):
        kind, _ = array.__dlpack_device__()
        if int(kind) not in _DLPACK_CPU_DEVICES:
            on_gpu = int(kind) in _DLPACK_CUDA_DEVICES
            reason = "has no __cuda_array_interface__" if on_gpu else f"is of DLPack type {int(kind)}"
            raise InvalidArgument(f"{what} is on a device and {reason}; pass a torch or CuPy array")
        try:
            return np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError) as error:
            raise InvalidArgument(f"{what} cannot be read by DLPack: {error}") from error
    try:
        memory = memoryview(array)
    except TypeError:
        raise InvalidArgument(
            f"{what} is a {type(array).__name__}; pass a NumPy array, a torch tensor, or an object with "
            "DLPack, __cuda_array_interface__ or the buffer protocol"
        ) from None
    if not memory.c_contiguous:
        raise InvalidArgument(f"{what} is not contiguous")
    return np.asarray(memory)


def raw_bytes(data: Any, what: str) -> View:
    """The memory of a buffer, array or tensor of any dtype as bytes; it must lie in host memory, contiguous.

    Raises InvalidArgument where it does not, or holds Python objects.
    """
    found = raw_bytes_anywhere(data, what)
    if found.device >= 0:
        raise InvalidArgument(f"{what} lies on CUDA device {found.device}; pass a copy in host memory")
    return found


def raw_bytes_anywhere(data: Any, what: str) -> View:
    """Like `raw_bytes`, for memory of the host or of a CUDA device."""
    if isinstance(data, (bytes, bytearray)):
        data = np.frombuffer(data, dtype=np.uint8)
    found = _view(data, what, writable=False)
    if isinstance(found.owner, np.ndarray) and found.owner.dtype.hasobject:
        raise InvalidArgument(f"{what} holds Python objects, not bytes")
    return View(found.address, _byte_count(found), _UINT8, found.device, found.owner)


def _byte_count(array: View) -> int:
    if hasattr(array.owner, "nbytes"):
        return int(array.owner.nbytes)
    return array.count * int(np.dtype(array.owner.__cuda_array_interface__["typestr"]).itemsize)


def _numpy_dtype(array: np.ndarray[Any, Any]) -> str:
    if known := _NUMPY_NAMES.get(array.dtype):
        return known
    # ml_dtypes' bfloat16 has this name; a plain 2-byte void array is taken for bfloat16 bits as well.
    if array.dtype.name == "bfloat16" or array.dtype == np.dtype("V2"):
        return "bfloat16"
    return str(array.dtype.name if array.dtype.isnative else array.dtype.str)


def bytes_view(buffer: Any, what: str, *, writable: bool = False) -> View:
    """Like `view`, for memory of single bytes (uint8). Raises InvalidArgument for any other dtype."""
    if isinstance(buffer, memoryview) and not buffer.c_contiguous:
        raise InvalidArgument(f"{what} is not contiguous")
    if isinstance(buffer, (bytes, bytearray, memoryview)):
        buffer = np.frombuffer(buffer, dtype=np.uint8)
    found = view(buffer, what, writable=writable)
    if found.dtype != _UINT8:
        raise InvalidArgument(f"{what} has dtype {found.dtype}; it must be uint8")
    return found
