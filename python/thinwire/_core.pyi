"""The native core of thinwire.

Buffers cross as addresses, which nobody checks here: thinwire's Python layer does so first. Calls that
compute release the GIL. Errors are the classes of `thinwire.errors`. A `dtype` is the frame's code: 0 fp32,
1 fp16, 2 bf16.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypedDict

from typing_extensions import Buffer

__version__: Final[str]
FLAG_ABORTED: Final[int]
FLAG_NONFINITE: Final[int]
HEADER_BYTES: Final[int]
WIRE_VERSION: Final[int]

class _BuildInfo(TypedDict):
    cuda: bool
    cuda_reason: str
    cuda_archs: str
    compiler: str
    targets: list[str]

def build_info() -> _BuildInfo:
    """What this build contains."""

def targets() -> list[str]:
    """CPU targets this machine can run, slowest first."""

def active_target() -> str:
    """The CPU target kernels run on."""

def force_target(target: str | None) -> None:
    """Forces a CPU target for this process; None goes back to the best. Raises InvalidArgument."""

def xxh3_64(data: Buffer, seed: int = 0) -> int:
    """XXH3-64 of a contiguous buffer."""

def hash_many(addresses: Sequence[int], sizes: Sequence[int]) -> int:
    """XXH3-64 over several buffers, each seeded with the hash of those before it."""

class CodecSpec:
    """A codec with its parameters. Immutable."""

    def __init__(
        self, name: str, block: int = 0, rounding: str = "", density: float = 0.0, values: str = ""
    ) -> None:
        """0 and "" stand for the codec's default. Raises InvalidArgument for what does not exist."""
    @property
    def name(self) -> str: ...
    @property
    def wire_id(self) -> int: ...
    @property
    def param(self) -> int: ...
    @property
    def params(self) -> dict[str, int | float | str]: ...
    @property
    def ratio(self) -> float: ...
    @property
    def error_bound(self) -> float: ...
    @property
    def error_norm(self) -> Literal["max", "l2"]: ...
    def payload_bytes(self, count: int) -> int: ...
    def resolve(self, count: int) -> CodecSpec: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def codec_list() -> list[CodecSpec]:
    """Every codec with its default parameters."""

class Layout:
    """What one frame holds: segments of (count, codec)."""

    def __init__(self, segments: Sequence[tuple[int, CodecSpec]], plan_id: int | None = None) -> None:
        """Without a plan_id there must be one segment, whose codec the frame names."""
    @property
    def count(self) -> int: ...
    @property
    def frame_bytes(self) -> int: ...
    @property
    def segments(self) -> list[tuple[int, CodecSpec]]: ...

class Header:
    """The header of a frame. codec, param, dtype, flags, count and payload_bytes are set by encoding."""

    group: int
    step: int
    bucket: int
    slice: int
    sender: int
    phase: int
    weight: float
    control: int
    def __init__(
        self,
        *,
        group: int = 0,
        step: int = 0,
        bucket: int = 0,
        slice: int = 0,
        sender: int = 0,
        phase: int = 0,
        weight: float = 1.0,
        control: int = 0,
    ) -> None: ...
    @property
    def param(self) -> int: ...
    @property
    def codec(self) -> int: ...
    @property
    def dtype(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def payload_bytes(self) -> int: ...

def fold(
    layout: Layout,
    x: int,
    dtype: int,
    scale: float,
    residual_in: Sequence[int] | None,
    residual_dtype: int,
    held: Sequence[bool] | None,
    out: int,
) -> None:
    """out (fp32) = x * scale + residual_in; a held segment leaves its residual out."""

def encode_frame(
    layout: Layout,
    header: Header,
    x: int,
    dtype: int,
    scale: float,
    residual_in: Sequence[int] | None,
    residual_out: Sequence[int] | None,
    residual_dtype: int,
    held: Sequence[bool] | None,
    key: int,
    out: int,
    out_bytes: int,
) -> int:
    """Encodes one frame; returns how many blocks (values, for 16 and 32 bit codecs) were not finite."""

def decode_frame(
    layout: Layout, frame: int, frame_bytes: int, out: int, dtype: int, accumulate: bool
) -> Header:
    """Checks and decodes one frame; an aborted one leaves out as it is."""

def cuda_encode_frame(
    layout: Layout,
    header: Header,
    x: int,
    dtype: int,
    scale: float,
    residual_in: Sequence[int] | None,
    residual_out: Sequence[int] | None,
    residual_dtype: int,
    held: Sequence[bool] | None,
    key: int,
    out: int,
    out_bytes: int,
    stream: int,
) -> int:
    """encode_frame for x and residuals on a CUDA device, out in host memory; waits for the stream."""

def cuda_decode_frame(
    layout: Layout, frame: int, frame_bytes: int, out: int, dtype: int, accumulate: bool, stream: int
) -> Header:
    """decode_frame for a frame in host memory and out on a CUDA device; waits for the stream."""

def read_header(frame: int, frame_bytes: int) -> Header:
    """The header of a frame, after every check that needs no codec."""

def write_abort(header: Header, error_number: int, message: str, out: int, out_bytes: int) -> int:
    """Writes an aborted frame, its message cut to fit; returns its bytes."""

def abort_reason(frame: int, frame_bytes: int) -> tuple[int, str]:
    """Error number and message of an aborted frame."""

def is_zero(x: int, n: int, dtype: int) -> bool:
    """Whether every value is +0 or -0."""

def nonfinite_count(x: int, n: int, dtype: int) -> int:
    """How many values are NaN or infinite."""
