"""The native codecs called with arrays on a CUDA device: what `core_calls` does in host memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from core_calls import Encoded
from support import BF16, FP16, FP32, Array, junk
from thinwire import _core

torch = pytest.importorskip("torch", reason="tests on a GPU need torch")


def why_not() -> str:
    """Say why nothing can run on a device here; empty if it can."""
    info = _core.build_info()
    if not info["cuda"]:
        return f"no CUDA kernels: {info['cuda_reason']}"
    return "" if torch.cuda.is_available() else "no CUDA device"


needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]
"""The marks of every module in this folder."""

TORCH_DTYPES = {FP32: torch.float32, FP16: torch.float16, BF16: torch.bfloat16}


class Guarded:
    """A copy of a host array in device memory, guard bytes on both sides.

    Kernels move aligned elements otherwise than others: an odd number of them is aligned to elements alone.
    """

    GUARD, PATTERN = 64, 0xA5

    def __init__(self, content: Array) -> None:
        self.start = self.GUARD + content.size % 2 * content.itemsize
        memory = np.full(2 * self.start + content.nbytes, self.PATTERN, dtype=np.uint8)
        memory[self.start : self.start + content.nbytes] = np.frombuffer(content.tobytes(), np.uint8)
        self.memory = torch.from_numpy(memory).cuda()
        self.original = content

    @property
    def ptr(self) -> int:
        """The address of the first element."""
        return self.memory.data_ptr() + self.start

    def read(self) -> Array:
        """Return the content, after a look at the guard bytes."""
        memory = self.memory.cpu().numpy()
        end = self.start + self.original.nbytes
        assert (memory[: self.start] == self.PATTERN).all()
        assert (memory[end:] == self.PATTERN).all()
        return memory[self.start : end].view(self.original.dtype).copy()

    def unchanged(self) -> bool:
        """Say whether content and guard bytes are as they were."""
        return self.read().tobytes() == self.original.tobytes()


def current_stream() -> int:
    """Return the address of torch's current stream."""
    return int(torch.cuda.current_stream().cuda_stream)


def encode(
    layout: _core.Layout,
    x: Array,
    dtype: int = FP32,
    *,
    header: _core.Header | None = None,
    scale: float = 1.0,
    residuals: Sequence[Array | None] | None = None,
    residual_dtype: int = FP32,
    mode: str = "in place",
    held: Sequence[bool] | None = None,
    key: int = 0,
) -> Encoded:
    """Encode a frame on the device; arguments and result as of `core_calls.encode`."""
    source, out = Guarded(x), junk(layout.frame_bytes)
    before = [None if r is None else Guarded(r) for r in residuals or []]
    after = before if mode == "in place" else [None if r is None else Guarded(r + 1) for r in residuals or []]
    nonfinite = _core.cuda_encode_frame(
        layout,
        header or _core.Header(),
        source.ptr,
        dtype,
        scale,
        _addresses(before) if residuals and mode != "out only" else None,
        _addresses(after) if residuals else None,
        residual_dtype,
        held and list(held),
        key,
        out.ctypes.data,
        out.size,
        current_stream(),
    )
    assert source.unchanged()
    assert mode == "in place" or all(r is None or r.unchanged() for r in before)
    return Encoded(out.tobytes(), [None if r is None else r.read() for r in after], nonfinite)


def decode(
    layout: _core.Layout, frame: bytes, out: Array, dtype: int = FP32, *, accumulate: bool = False
) -> tuple[_core.Header, Array]:
    """Decode a frame over a copy of `out` on the device; return header and result. Errors leave it alone."""
    source, target = np.frombuffer(frame, dtype=np.uint8), Guarded(out)
    try:
        header = _core.cuda_decode_frame(
            layout, source.ctypes.data, source.size, target.ptr, dtype, accumulate, current_stream()
        )
    except Exception:
        assert target.unchanged()
        raise
    return header, target.read()


def to_device(stored: Array, dtype: int) -> torch.Tensor:
    """Return a CUDA tensor of the elements; 16-bit ones are held as uint16 bit patterns."""
    bits = stored.view(np.int32 if dtype == FP32 else np.int16)
    return torch.from_numpy(bits.copy()).cuda().view(TORCH_DTYPES[dtype])


def to_host(tensor: torch.Tensor) -> Array:
    """Return the elements of a tensor as `to_device` takes them."""
    if tensor.dtype == torch.float32:
        return tensor.cpu().numpy()
    return tensor.view(torch.int16).cpu().numpy().view(np.uint16)


def _addresses(buffers: Sequence[Guarded | None]) -> list[int]:
    return [0 if b is None else b.ptr for b in buffers]
