"""Codecs at the NumPy level: `codec("int4:block=64").encode(x)` and back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from thinwire import _core, _parameters
from thinwire._buffers import DTYPE_NAMES, FP16, View, bytes_view, view
from thinwire._streams import is_on_gpu, stream_for
from thinwire.errors import CorruptFrame, InvalidArgument

_PARSERS: _parameters.Parsers = {
    "block": (_parameters.integer, "an integer"),
    "rounding": (str, "a string"),
    "density": (float, "a number"),
    "values": (str, "a string"),
    "format": (str, "a string"),
    "rotate": (_parameters.boolean, "true or false"),
}


@dataclass(frozen=True)
class CodecInfo:
    """One entry of the registry.

    `ratio` is the size of fp32 values over that of their payload, for many values. `error_bound` limits the
    error of one encoding: by its block's greatest magnitude where `error_norm` is "max", by the L2 norm of
    the input where it is "l2".
    """

    name: str
    wire_id: int
    ratio: float
    error_bound: float
    error_norm: str
    params: dict[str, Any]


class Codec:
    """A codec with its parameters. Encodes arrays to frames (docs/wire/frame.md) and back. Immutable."""

    __slots__ = ("_spec",)

    def __init__(self, spec: _core.CodecSpec) -> None:
        self._spec = spec

    @property
    def info(self) -> CodecInfo:
        """Name, wire id, ratio, error bound and parameters."""
        s = self._spec
        return CodecInfo(s.name, s.wire_id, s.ratio, s.error_bound, s.error_norm, s.params)

    @property
    def spec(self) -> _core.CodecSpec:
        """The native form, for layouts."""
        return self._spec

    def __str__(self) -> str:
        return str(self._spec)

    def __repr__(self) -> str:
        return f"thinwire.codec({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self._spec == other._spec

    def __hash__(self) -> int:
        return hash(self._spec)

    def __reduce__(self) -> tuple[Callable[[str], Codec], tuple[str]]:
        return codec, (str(self),)

    def bound(self, count: int) -> int:
        """Bytes of the frame for `count` values. Exact, so never exceeded."""
        return self._layout(count).frame_bytes

    def encode(
        self,
        x: Any,
        out: Any = None,
        residual: Any = None,
        scale: float = 1.0,
        seed: int = 0,
        step: int = 0,
        stream: int | None = None,
    ) -> Any:
        """Encodes `x * scale + residual` and returns the frame, a uint8 array of `bound(x.size)` bytes.

        `x`: any shape, contiguous, float32, float16 or bfloat16 (NumPy, torch, DLPack, CUDA array interface).
        One on a GPU is encoded there; the frame always lies in host memory.
        `out`: uint8 host memory for the frame, at least `bound(x.size)` bytes; its used part is returned.
        `residual`: as many values as x, float32 or bfloat16, on the same device; it is added, and replaced by
        what the frame does not deliver.
        `seed`, `step`: choose the random numbers of stochastic rounding, and topk's sample.
        `stream`: the address of the CUDA stream to work on and to wait for; only for arrays on a GPU. None
        means torch's current stream for its tensors, the stream that a CUDA array interface names, or the
        default stream.

        Raises InvalidArgument where an argument does not fit, NotBuilt for arrays on a GPU in a build without
        CUDA, and CudaError where a CUDA call fails.
        """
        source = view(x, "x")
        dtype = source.dtype_code
        layout = self._layout(source.count)
        kept = residual_view(residual, source)
        target = _frame_memory(out, layout.frame_bytes)
        addresses = [kept.address] if kept else None
        key = rounding_key(seed, step)
        arguments = (
            layout,
            _core.Header(step=step),
            source.address,
            dtype,
            scale,
            addresses,
            addresses,
            kept.dtype_code if kept else 0,
            None,
            key,
            target.address,
            target.count,
        )
        if is_on_gpu(source, stream):
            _core.cuda_encode_frame(*arguments, stream_for(source, stream))
        else:
            _core.encode_frame(*arguments)
        return target.owner[: layout.frame_bytes]

    def decode(self, buf: Any, out: Any = None, accumulate: bool = False, stream: int | None = None) -> Any:
        """Decodes a frame into `out` (or adds to it), and returns it.

        `buf`: exactly one frame, uint8, in host memory. `out`: as many values as the frame holds, any of the
        three dtypes, in host memory or on a GPU; without it a new NumPy array (bfloat16 frames give float32,
        which NumPy has). `stream`: as for `encode`. Raises CorruptFrame if the frame is damaged or is not of
        this codec, InvalidArgument if `out` does not fit (it is then untouched), NotBuilt and CudaError as
        `encode` does.
        """
        frame = _host_bytes(buf, "buf")
        header = _core.read_header(frame.address, frame.count)
        if _core.HEADER_BYTES + header.payload_bytes != frame.count:
            raise CorruptFrame(
                f"corrupt frame: {frame.count} bytes were passed, the frame says "
                f"{_core.HEADER_BYTES + header.payload_bytes}"
            )
        if header.flags & _core.FLAG_ABORTED:
            raise CorruptFrame(
                f"the sender aborted this frame: {_core.abort_reason(frame.address, frame.count)[1]}"
            )
        layout = self._checked_layout(header)
        if out is None:
            if accumulate:
                raise InvalidArgument("accumulate=True adds to out; pass out")
            out = np.empty(header.count, np.float16 if header.dtype == FP16 else np.float32)
        target = view(out, "out", writable=True)
        if target.count != header.count:
            raise InvalidArgument(f"out has {target.count} values, the frame {header.count}")
        arguments = (layout, frame.address, frame.count, target.address, target.dtype_code, accumulate)
        if is_on_gpu(target, stream):
            _core.cuda_decode_frame(*arguments, stream_for(target, stream))
        else:
            _core.decode_frame(*arguments)
        return out

    def _layout(self, count: int) -> _core.Layout:
        return _core.Layout([(count, self._spec)])

    def _checked_layout(self, header: _core.Header) -> _core.Layout:
        """The layout of a frame, known to be of this codec before anything is sized by its count."""
        expected = self._spec.resolve(header.count)
        if (header.codec, header.param) != (expected.wire_id, expected.param):
            raise CorruptFrame(
                f"corrupt frame: it has codec {header.codec} with param {header.param}; "
                f"{self} writes codec {expected.wire_id} with param {expected.param}"
            )
        if expected.payload_bytes(header.count) != header.payload_bytes:
            raise CorruptFrame(
                f"corrupt frame: {header.count} values of {expected} take "
                f"{expected.payload_bytes(header.count)} bytes, its payload has {header.payload_bytes}"
            )
        return self._layout(header.count)


def codec(name: str | Codec, **params: Any) -> Codec:
    """The codec of a name, parameters in it (`codec("topk:density=0.01")`) or as keywords.

    `codecs()` lists names and parameters. Raises InvalidArgument for a name, a parameter or a value that does
    not exist.
    """
    if isinstance(name, Codec):
        if params:
            raise InvalidArgument(f"{name!r} is a codec already; name its parameters when it is made")
        return name
    if not isinstance(name, str):
        raise InvalidArgument(f"a codec is named by a string, not by a {type(name).__name__}")
    base, given = _parameters.split(name, "codec")
    return Codec(_core.CodecSpec(base, **_checked([*given, *params.items()], base)))


def codecs() -> list[CodecInfo]:
    """Every codec there is, with its default parameters."""
    return [Codec(spec).info for spec in _core.codec_list()]


def targets() -> list[str]:
    """CPU targets that this machine can run, slowest first. The last one is used unless another is forced."""
    return list(_core.targets())


class force_target(AbstractContextManager[None]):
    """Runs the kernels on one CPU target: from the call on, or for a `with` block. Results stay the same.

    `None` goes back to the best. Raises InvalidArgument for a target this machine lacks.
    """

    def __init__(self, target: str | None) -> None:
        self._before = _core.active_target()
        _core.force_target(target)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.force_target(self._before)


def rounding_key(seed: int, step: int) -> int:
    """The key of stochastic rounding (docs/wire/conventions.md). Raises InvalidArgument beyond 64 bits."""
    try:
        return _core.xxh3_64(struct.pack("<QQ", seed, step))
    except struct.error:
        raise InvalidArgument(
            f"seed is {seed!r}, step is {step!r}; both must be integers from 0 to 2^64 - 1"
        ) from None


def _checked(given: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    values = _parameters.read(given, f"codec {name}", _PARSERS)
    for key, value in given:
        is_nothing = values[key] in (0, "") and values[key] is not False
        if is_nothing or (key == "block" and not 0 < values[key] < 2**32):
            raise InvalidArgument(f"{key} is {value!r}, which codec {name} cannot have")
    return values


def residual_view(residual: Any, source: View) -> View | None:
    """The memory of a residual of `source`, None for None. Raises InvalidArgument where it does not fit."""
    if residual is None:
        return None
    found = view(residual, "residual", writable=True)
    if found.dtype not in ("float32", "bfloat16"):
        raise InvalidArgument(f"the residual has dtype {found.dtype}; it must be float32 or bfloat16")
    if found.count != source.count:
        raise InvalidArgument(f"x has {source.count} values, the residual {found.count}")
    if (found.device < 0) != (source.device < 0):
        raise InvalidArgument(
            f"x lies {_place(source)}, the residual {_place(found)}; they must lie on one device"
        )
    return found


def _place(array: View) -> str:
    return "in host memory" if array.device < 0 else f"on CUDA device {array.device}"


def _host_bytes(buffer: Any, what: str, *, writable: bool = False) -> View:
    found = bytes_view(buffer, what, writable=writable)
    if found.device >= 0:
        raise InvalidArgument(f"{what} lies {_place(found)}; a frame must lie in host memory")
    return found


def _frame_memory(out: Any, frame_bytes: int) -> View:
    if out is None:
        out = np.empty(frame_bytes, np.uint8)
    found = _host_bytes(out, "out", writable=True)
    if found.owner.ndim != 1:
        raise InvalidArgument("out must have one dimension")
    if found.count < frame_bytes:
        raise InvalidArgument(f"the frame takes {frame_bytes} bytes, out has {found.count}")
    return found


__all__ = ["DTYPE_NAMES", "Codec", "CodecInfo", "codec", "codecs", "force_target", "rounding_key", "targets"]
