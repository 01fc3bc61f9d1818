"""The CUDA stream that an array's library orders its work by, found without importing that library."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from thinwire.errors import InvalidArgument

if TYPE_CHECKING:
    from thinwire._buffers import View

_LEGACY_DEFAULT = 0


def is_on_gpu(array: View, stream: int | None) -> bool:
    """Whether the array is on a GPU. Raises InvalidArgument for a stream where it is not."""
    if array.device < 0 and stream is not None:
        raise InvalidArgument("stream is for arrays on a GPU")
    return array.device >= 0


def stream_for(array: View, stream: int | None) -> int:
    """The stream to work on: `stream`; or else torch's current one of the tensor's device, the one that the
    array's CUDA array interface names, or the legacy default stream. Raises InvalidArgument if `stream` is no
    stream's address.
    """
    if stream is None:
        return _stream_of(array)
    if isinstance(stream, bool) or not isinstance(stream, int) or stream < 0:
        raise InvalidArgument(
            f"stream is {stream!r}; it must be the address of a CUDA stream, like torch's Stream.cuda_stream"
        )
    return stream


def handle_of(stream: Any) -> tuple[int, int]:
    """Device and address of a stream of torch or CuPy. Raises InvalidArgument for anything else."""
    if hasattr(stream, "cuda_stream"):
        return int(stream.device_index), int(stream.cuda_stream)
    if hasattr(stream, "ptr") and hasattr(stream, "device_id"):
        device = int(stream.device_id)
        # CuPy's default stream is of no device until it is used.
        return device if device >= 0 else _cupy_device(), int(stream.ptr)
    kind = type(stream).__name__
    raise InvalidArgument(f"stream is a {kind}; pass a torch.cuda.Stream or cupy.cuda.Stream")


def current_streams() -> list[tuple[int, int]]:
    """Device and address of the streams that torch and CuPy, where imported, now give work to."""
    found = []
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found += [handle_of(torch.cuda.current_stream(d)) for d in range(torch.cuda.device_count())]
    cupy: Any = sys.modules.get("cupy")
    if cupy is not None:
        found.append(handle_of(cupy.cuda.get_current_stream()))
    return found


def _cupy_device() -> int:
    cupy: Any = sys.modules["cupy"]
    return int(cupy.cuda.runtime.getDevice())


def _stream_of(array: View) -> int:
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(array.owner, torch.Tensor):
        if torch.cuda._is_in_bad_fork():  # torch has no stream then; the call that takes this says what to do
            return _LEGACY_DEFAULT
        return int(torch.cuda.current_stream(array.device).cuda_stream)
    interface = getattr(array.owner, "__cuda_array_interface__", {})
    return int(interface.get("stream") or _LEGACY_DEFAULT)
