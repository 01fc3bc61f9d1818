"""The native codecs called with NumPy arrays. Each call checks the guard bytes around its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from support import FP32, Array, Guarded, junk
from thinwire import _core


def spec(name: str, params: dict[str, Any]) -> _core.CodecSpec:
    """Return the codec with the given parameters."""
    return _core.CodecSpec(name, **params)


def single(name: str, params: dict[str, Any], n: int) -> _core.Layout:
    """Return the layout of `n` values in one codec."""
    return _core.Layout([(n, spec(name, params))])


class Encoded(NamedTuple):
    """What one call of encode_frame left behind."""

    frame: bytes
    residuals: list[Array | None]
    nonfinite: int


def addresses(buffers: Sequence[Guarded | None]) -> list[int]:
    """Return the buffers' addresses, 0 for none."""
    return [0 if b is None else b.ptr for b in buffers]


def guarded(arrays: Sequence[Array | None] | None) -> list[Guarded | None]:
    """Return guarded copies of the arrays there are."""
    return [None if a is None else Guarded(a) for a in arrays or []]


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
    """Encode a frame. `residuals` are the old ones, one a segment; the new ones come back.

    `mode` says where to: `in place`, `apart` (other arrays), or `out only` (there, and nothing is read).
    """
    assert x.size == layout.count
    assert all(r is None or r.size == n for r, (n, _) in zip(residuals or [], layout.segments, strict=False))
    source, out = Guarded(x), Guarded(junk(layout.frame_bytes))
    before = guarded(residuals)
    after = before if mode == "in place" else guarded([None if r is None else r + 1 for r in residuals or []])
    nonfinite = _core.encode_frame(
        layout,
        header or _core.Header(),
        source.ptr,
        dtype,
        scale,
        addresses(before) if residuals and mode != "out only" else None,
        addresses(after) if residuals else None,
        residual_dtype,
        held and list(held),
        key,
        out.ptr,
        layout.frame_bytes,
    )
    assert source.unchanged()
    assert out.intact()
    assert all(r is None or r.intact() for r in after)
    assert mode == "in place" or all(r is None or r.unchanged() for r in before)
    return Encoded(out.bytes.tobytes(), [None if r is None else r.array.copy() for r in after], nonfinite)


def decode(
    layout: _core.Layout, frame: bytes, out: Array, dtype: int = FP32, *, accumulate: bool = False
) -> tuple[_core.Header, Array]:
    """Decode a frame over a copy of `out`; return header and result. An error must leave it as it was."""
    assert out.size == layout.count
    source, target = Guarded(np.frombuffer(frame, dtype=np.uint8)), Guarded(out)
    try:
        header = _core.decode_frame(layout, source.ptr, len(frame), target.ptr, dtype, accumulate)
    except Exception:
        assert target.unchanged()
        raise
    finally:
        assert source.unchanged()
    assert target.intact()
    return header, target.array.copy()


def decoded(layout: _core.Layout, frame: bytes) -> Array:
    """Return a frame's values as fp32."""
    return decode(layout, frame, np.full(layout.count, 99, dtype=np.float32))[1]


def fold(
    layout: _core.Layout,
    x: Array,
    dtype: int = FP32,
    *,
    scale: float = 1.0,
    residuals: Sequence[Array | None] | None = None,
    residual_dtype: int = FP32,
    held: Sequence[bool] | None = None,
) -> Array:
    """Return x * scale + residuals as fp32."""
    assert x.size == layout.count
    source, out = Guarded(x), Guarded(np.zeros(layout.count, dtype=np.float32))
    before = guarded(residuals)
    pointers = addresses(before) if residuals else None
    _core.fold(layout, source.ptr, dtype, scale, pointers, residual_dtype, held and list(held), out.ptr)
    assert source.unchanged()
    assert out.intact()
    assert all(r is None or r.unchanged() for r in before)
    return out.array.copy()
