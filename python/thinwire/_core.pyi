"""The native core of thinwire.

Buffers cross as addresses, which nobody checks here: thinwire's Python layer does so first. Calls that
compute release the GIL. Errors are the classes of `thinwire.errors`. A `dtype` is the frame's code: 0 fp32,
1 fp16, 2 bf16.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Buffer

__version__: Final[str]
FLAG_ABORTED: Final[int]
FLAG_NONFINITE: Final[int]
GREATEST_BASIS_RANK: Final[int]
HEADER_BYTES: Final[int]
MAX_PAYLOAD_BYTES: Final[int]
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

def xxh3_128(data: Buffer, seed: int = 0, secret: Buffer | None = None) -> bytes:
    """XXH3-128 of a contiguous buffer: the 16 bytes of `xxhash.xxh3_128_digest`.

    A secret, of 136 bytes or more, takes the place of the algorithm's own; as good as it is random. Data can
    be chosen to collide. Raises InvalidArgument for a shorter secret, for a seed beside one, and for a buffer
    with gaps.
    """

def xxh3_128_blocks(
    data: Buffer, ends: ArrayLike, secret: Buffer | None = None, threads: int = 0
) -> NDArray[np.uint8]:
    """XXH3-128 of consecutive blocks of one buffer: uint8, (len(ends), 16).

    `ends`: offsets behind each block, int64, rising, the last one the length of the data; InvalidArgument
    where they are not. `threads`: at most so many work; 0 stands for every core.
    """

def blake3(data: Buffer, key: Buffer | None = None) -> bytes:
    """BLAKE3 of a contiguous buffer, 32 bytes; keyed where there is a key of 32 bytes."""

def blake3_blocks(
    data: Buffer, ends: ArrayLike, key: Buffer | None = None, threads: int = 0
) -> NDArray[np.uint8]:
    """BLAKE3 of consecutive blocks of one buffer: uint8, (len(ends), 32).

    `ends` and `threads` as in `xxh3_128_blocks`. Faster than one call a block: SIMD lanes work on 1 KiB
    chunks of different blocks.
    """

def split_planes(data: Buffer, width: int) -> NDArray[np.uint8]:
    """The first bytes of all elements, then the second bytes, and so on; a shorter rest stays at the end.

    Elements have `width` bytes, 2 or 4; InvalidArgument for others. The result is as long as the data.
    """

def merge_planes(planes: Buffer, width: int, out: Buffer) -> None:
    """Writes to `out`, of the same length, what `split_planes` made these planes of.

    Raises InvalidArgument for another length or width, BufferError where `out` is not writable. `out` must
    not overlap the planes.
    """

def plane_entropies(data: Buffer, width: int) -> NDArray[np.float64]:
    """Shannon's entropy of the bytes of each plane, bits a byte: float64, (width,), 0 to 8.

    Of at most 64 KiB, in runs of 1 KiB spread evenly over the data; the same sample for the same length.
    """

def hash_many(addresses: Sequence[int], sizes: Sequence[int]) -> int:
    """XXH3-64 over several buffers, each seeded with the hash of those before it."""

def chunk_sizes(name: str, min: int = 0, average: int = 0, max: int = 0) -> tuple[int, int, int]:
    """Least, average and greatest bytes of a chunk in a profile; 0 stands for the default.

    Raises InvalidArgument, which names the parameter.
    """

def fingerprint(
    address: int,
    size: int,
    name: str,
    min: int,
    average: int,
    max: int,
    key: Buffer | None = None,
    threads: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The ends of the chunks of data, and their BLAKE3 digests."""

def cuda_fingerprint(
    address: int, size: int, name: str, min: int, average: int, max: int, key: Buffer | None, stream: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """fingerprint for data on a CUDA device; waits for the stream."""

def cuda_block_digests(
    addresses: Sequence[int], sizes: Sequence[int], block_bytes: int, key: Buffer | None, stream: int
) -> NDArray[np.uint8]:
    """BLAKE3 digests of the blocks of data on a CUDA device; waits for the stream."""

class Chunker:
    """Cuts a stream into chunks, piece by piece."""

    def __init__(self, name: str, min: int, average: int, max: int, threads: int) -> None:
        """0 threads are every core, 0 bytes a default. Raises InvalidArgument."""
    def update(self, address: int, size: int) -> NDArray[np.int64]:
        """Takes a piece of the stream and returns the ends that are certain now."""
    def finish(self) -> NDArray[np.int64]:
        """Returns the end of the stream, unless the last chunk has ended there."""

class Reads:
    """What one call of a FileReader reads. It may go before that has ended."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until all has been read; returns whether it has. May be called again."""

class FileReader:
    """Reads records of many files in parallel, on threads of its own, into memory of the caller's.

    A reader serves the process that made it: in the child of a fork every call but `close` raises
    InvalidArgument.
    """

    def __init__(
        self,
        paths: Sequence[str | bytes],
        threads: int = 0,
        depth: int = 32,
        engine: str = "auto",
        direct: str = "auto",
    ) -> None:
        """Opens nothing and starts no thread yet.

        `threads`: 0 is one a core, four at most. `depth`: reads that wait for the disk at a time; of each
        thread with io_uring, of all with preadv. `engine`: "auto", "io_uring" or "preadv". `direct`, reads
        around the page cache: "auto" (of 1 MiB or more that it does not hold, of files that together are
        larger than memory), "never" or "always". Raises InvalidArgument; NotBuilt where io_uring is asked for
        and cannot be had.
        """
    @property
    def engine(self) -> str:
        """What reads: "io_uring" or "preadv"."""
    def sizes(self) -> list[int]:
        """Bytes of each file, as they are now; -errno where there is none to be read."""
    def submit(
        self,
        count: int,
        files: int,
        offsets: int,
        sizes: int,
        targets: int,
        sums: int,
        faults: int,
        memory: object,
    ) -> Reads:
        """Begins to read `count` records.

        Addresses of arrays: `files` uint32, `offsets` and `sizes` (bytes), `targets` (addresses) and `sums`
        (XXH3-64; 0: unchecked) uint64, which may go once this returns; `faults` int32, each written until the
        reads have ended: 0, an errno (ECANCELED after `close`), -1 where the file ends before the record
        does, -2 for a wrong checksum. `memory`: what targets and faults lie in, kept as long as it is
        written to. Raises InvalidArgument.
        """
    def submit_fixed(
        self,
        numbers: NDArray[np.int64],
        ends: NDArray[np.int64],
        bases: NDArray[np.int64],
        record_bytes: int,
        slots: Sequence[tuple[int, int]],
        faults: NDArray[np.int32],
        memory: object,
    ) -> Reads:
        """The same for records of one size by their `numbers` over all files, without checksums.

        `ends`: of each file, the number after its last record. `bases`: of each file, the byte where record 0
        would begin. `slots`: address and number of records of the memory that they go to in turn, which lie
        in `memory`.
        """
    def ahead(self, count: int, files: int, offsets: int, sizes: int) -> None:
        """Has the page cache filled with records, in this order, whenever there is nothing to read."""
    def stats(self) -> dict[str, Any]:
        """Of the calls whose reads have ended: `bytes`, `reads`, `merged` records that came with another's
        read, `direct` reads; `waits`, calls of `wait` whose reads had not ended; `engine`."""
    def close(self) -> None:
        """Cancels what has not begun and waits for what has. May be called again."""

class Permutation:
    """A keyed permutation of 0 .. size - 1."""

    def __init__(self, size: int, key: int) -> None:
        """`size` from 1 to 2^62. Raises InvalidArgument."""
    def take(self, start: int, count: int, out: int) -> None:
        """Writes where the indices from `start` on go.

        `out`: the address of `count` int64. Raises InvalidArgument unless all indices are below the size.
        """

class CodecSpec:
    """A codec with its parameters. Immutable."""

    def __init__(
        self,
        name: str,
        block: int = 0,
        rounding: str = "",
        density: float = 0.0,
        values: str = "",
        format: str = "",
        rotate: bool | None = None,
    ) -> None:
        """0, "" and None stand for the codec's default. Raises InvalidArgument for what does not exist."""
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

class Basis:
    """Where the vectors of a shared basis lie: rank x columns, fp32."""

    def __init__(self, columns: int, rank: int, vectors: int) -> None: ...
    @property
    def columns(self) -> int: ...
    @property
    def rank(self) -> int: ...
    def begin(self, key: int, vectors: int) -> None:
        """Writes the random orthonormal vectors that belong to a key."""
    def learn(self, matrix: int, dtype: int, rows: int, moments: int) -> None:
        """Adds vectors @ transposed(matrix) @ matrix to the moments, rank x columns."""
    def spread(self, matrix: int, dtype: int, rows: int, share: float, before: int, after: int) -> None:
        """Leaves in the matrix a share of what it and before, bf16, have beside the basis.

        The rest becomes after. A matrix of zeros stays, and so does before.
        """
    def turn(self, moments: int, next: int) -> None:
        """Writes the vectors, turned towards the moments, to next."""

def cuda_learn(
    lessons: Sequence[tuple[Basis, int, int, int, float, int, int]], dtype: int, stream: int
) -> None:
    """Learns, turns and, with an `after`, spreads, as `Basis` does; on a CUDA device, only launched.

    A lesson is (basis, matrix, rows, where the next vectors go, share, before, after).
    """

class LowRank:
    """Where the factors of a matrix lie: rank x rows and rank x columns, fp32."""

    def __init__(self, rows: int, columns: int, rank: int, left: int, right: int) -> None: ...
    def factor(
        self,
        is_left: bool,
        x: int,
        dtype: int,
        scale: float,
        residual: int,
        residual_dtype: int,
        out: int,
    ) -> None:
        """Writes one factor of x * scale + residual, worked out with the other one."""
    def deliver(
        self,
        is_left: bool,
        x: int,
        dtype: int,
        scale: float,
        residual: int,
        residual_out: int,
        residual_dtype: int,
        sent: int,
        mean: int,
    ) -> bool:
        """Replaces x by what the mean factor stands for; residual_out becomes what was not sent.

        False where x is not finite now."""

def orthonormal_factor(length: int, rank: int, factor: int, next: int) -> bool:
    """Writes a factor, made orthonormal, to next. False where it is zero or not finite."""

class FactoredBucket:
    """Where a bucket on a device lies, and what stands in for it."""

    def __init__(self, is_left: bool, dtype: int, residual_dtype: int, scale: float) -> None: ...
    def add_matrix(
        self,
        matrix: LowRank,
        values: int,
        residual: int,
        residual_out: int,
        sent: int,
        losses: int,
        mean: int,
        next: int,
    ) -> None:
        """Adds a matrix that travels as a factor."""
    def add_values(self, values: int, count: int, stand_in: int) -> None:
        """Adds values that the stand-in has as the bucket has them."""

def cuda_take_factors(bucket: FactoredBucket, stream: int) -> None:
    """Fills the stand-in of a bucket on a CUDA device; only launches."""

def cuda_give_factors(bucket: FactoredBucket, nonfinite: int, stream: int) -> None:
    """Delivers the means, keeps what was not sent, learns; only launches.

    The integer at `nonfinite`, 0 before, is not where a matrix is not finite now.
    """

def cuda_learn_factors(
    lessons: Sequence[tuple[LowRank, int, int]], is_left: bool, dtype: int, stream: int
) -> None:
    """Works out the next steps' factors from decoded gradients on a CUDA device; only launches.

    A lesson is (matrix, where its values lie, where its next factor goes).
    """

class Layout:
    """What one frame holds: segments of (count, codec) or (count, codec, basis)."""

    def __init__(
        self,
        segments: Sequence[tuple[int, CodecSpec] | tuple[int, CodecSpec, Basis]],
        plan_id: int | None = None,
    ) -> None:
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

def cuda_launch_encode(
    layout: Layout,
    x: int,
    dtype: int,
    scale: float,
    residual_in: Sequence[int] | None,
    residual_out: Sequence[int] | None,
    residual_dtype: int,
    held: Sequence[bool] | None,
    key: int,
    step: int,
    frame: int,
    work: int,
    stream: int,
    used: Sequence[int] | None = None,
    residual_in_x: bool = False,
) -> None:
    """Encodes a payload on the current CUDA device into a frame there; waits for nothing.

    A segment is held where there is a 0 at its address in `used`; the residual of one that is not is in x
    already with `residual_in_x`.
    """

def cuda_launch_fold(
    layout: Layout,
    x: int,
    dtype: int,
    scale: float,
    residual_in: Sequence[int] | None,
    residual_dtype: int,
    used: Sequence[int] | None,
    out: int,
    work: int,
    stream: int,
) -> None:
    """fold on the current CUDA device, segments held as `used` says; waits for nothing."""

def cuda_launch_find_nonzero(
    stretches: Sequence[tuple[int, int]], dtype: int, found: int, work: int, stream: int
) -> None:
    """Sets to 1 those of the zeroed `found` (uint32) whose stretch has a value that is not zero.

    A stretch is (address, count). Waits for nothing.
    """

def cuda_launch_decode(
    layout: Layout, frames: Sequence[int], out: int, dtype: int, accumulate: bool, work: int, stream: int
) -> None:
    """Adds up the payloads of frames on the current CUDA device, in their order; waits for nothing."""

def cuda_work_bytes(layout: Layout, frames: int = 1) -> int:
    """Bytes of working memory to encode, or to decode so many frames at once."""

def cuda_sum_work_bytes(segments: int) -> int:
    """Bytes of working memory of cuda_launch_fold and cuda_launch_find_nonzero, for so many of either."""

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

def environment() -> dict[str, str]:
    """The THINWIRE_* variables that stand for arguments, as they are now."""

class PeerAddress:
    """How a rank can be reached."""

    def __init__(self, hosts: Sequence[str], port: int, local_name: str, token: int) -> None: ...
    @property
    def hosts(self) -> list[str]: ...
    @property
    def port(self) -> int: ...
    @property
    def local_name(self) -> str: ...
    @property
    def token(self) -> int: ...

class NetworkOptions:
    """How links are made."""

    def __init__(
        self,
        *,
        interfaces: Sequence[str],
        ports: tuple[int, int],
        sockets: int,
        congestion: str,
        pacing: int,
        secret: bytes,
        tls: bool,
        certificate: str,
        key: str,
        authority: str,
        timeout: float,
    ) -> None: ...

class Call:
    """Which operation it is, and where its values lie."""

    def __init__(
        self, number: int, space: int, label: str, source: int, target: int, residual: int, deadline: float
    ) -> None: ...

class Reduction:
    """How values are added and coded."""

    def __init__(
        self,
        dtype: int,
        op: str,
        weight: float | None,
        codec: CodecSpec,
        algorithm: str,
        residual_dtype: int,
    ) -> None: ...

class Movement:
    """What is moved: values through a codec, or bytes."""

    def __init__(
        self, dtype: int, codec: CodecSpec | None, value_bytes: int, algorithm: str, residual_dtype: int
    ) -> None: ...

class Operation:
    """A collective that was started."""

    def wait(self, seconds: float) -> bool:
        """Waits; returns whether it is over."""
    def is_over(self) -> bool: ...
    def check(self) -> None:
        """Raises the error that ended it, if there was one."""
    @property
    def nonfinite(self) -> bool: ...
    @property
    def slice_failures(self) -> list[tuple[int, int, int, str]]: ...
    @property
    def stage_seconds(self) -> dict[str, float]: ...
    @property
    def sent_bytes(self) -> tuple[int, int]:
        """Bytes of the frames sent towards the owners, and from this rank as one."""
    @property
    def sampled_error(self) -> tuple[float, float]:
        """Squared norms of what encoding one sum lost, and of that sum."""

class ReducePlan:
    """What a rank does with every slice of a bucket, in every step."""

class Device:
    """A CUDA device as a rank uses it: a stream of its own."""

    def __init__(self, index: int) -> None: ...
    @property
    def stream(self) -> int:
        """The address of the stream."""

class OnDevice:
    """What an operation is told whose memory is a device's: the event after which its values may be read, or
    0, and (number, first value, values) of the parameters that keep their residual if they are all zero."""

    def __init__(self, device: Device, ready: int, watched: Sequence[tuple[int, int, int]]) -> None: ...

class Rank:
    """One rank of a group, with its progress thread."""

    def __init__(
        self, rank: int, ranks: int, timeout: float, network: NetworkOptions, cuda_ipc: bool
    ) -> None: ...
    @property
    def address(self) -> PeerAddress: ...
    def join(
        self,
        group: int,
        peers: Sequence[PeerAddress],
        kinds: Sequence[str],
        neighbours: Sequence[int],
        sites: Sequence[int],
    ) -> None:
        """Starts the thread and opens links to the neighbours, without waiting."""
    def wait_connected(self, limit: float) -> bool:
        """Waits for the links to the neighbours, in seconds."""
    def unconnected(self) -> list[int]: ...
    def abort(self, reason: str) -> None: ...
    def close(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def make_plan(
        self,
        slices: Sequence[
            tuple[int, int, int, int, Layout, Sequence[int], Sequence[int] | None, Sequence[int] | None, int]
        ],
        plan_id: int,
        dtype: int,
        residual_dtype: int,
        algorithm: str,
    ) -> ReducePlan:
        """A plan of (first, count, owner, round, layout, parameters, residuals, residuals, key seed)."""
    def choose_algorithm(self, count: int, compressed: bool) -> str: ...
    def run_plan(
        self,
        call: Call,
        plan: ReducePlan,
        step: int,
        weight: float,
        source: int,
        target: int,
        held: Sequence[int],
        sample: int,
        where: OnDevice | None = None,
    ) -> Operation: ...
    def all_reduce(self, call: Call, count: int, how: Reduction) -> Operation: ...
    def reduce_scatter(self, call: Call, count: int, how: Reduction) -> Operation: ...
    def all_gather(self, call: Call, count: int, how: Movement) -> Operation: ...
    def all_to_all(self, call: Call, count: int, how: Movement) -> Operation: ...
    def broadcast(self, call: Call, count: int, how: Movement, root: int) -> Operation: ...
    def barrier(self, call: Call) -> Operation: ...

class Ticket:
    """A count that only rises."""

    def __init__(self) -> None: ...
    def advance(self, value: int) -> None:
        """Raises it to a value."""
    def reached(self, value: int) -> bool: ...

class PinnedRange:
    """Memory of somebody else's, pinned where it lies."""

    def __init__(self, address: int, bytes: int, is_read_only: bool) -> None: ...
    @property
    def tier(self) -> str: ...
    @property
    def reason(self) -> str:
        """Why it is no higher tier, or ''."""
    def release(self) -> None:
        """Undoes it."""

class HostPool:
    """Host memory that is reused."""

    def __init__(
        self,
        limit: int = 0,
        huge_pages: bool = True,
        lock: bool = False,
        register_with_cuda: bool = True,
        threads: int = 0,
        decay_s: float = 10.0,
        hide_from_children: bool = False,
    ) -> None: ...
    @staticmethod
    def shared() -> HostPool:
        """The pool of the process; never destroyed."""
    def allocate(self, bytes: int, alignment: int = 64) -> int:
        """The address of uninitialised memory."""
    def free(self, address: int) -> None: ...
    def free_after(self, address: int, ticket: Ticket, value: int) -> None:
        """free, but the block is used again only when the ticket has reached the value."""
    def free_after_streams(self, address: int, streams: Sequence[tuple[int, int]]) -> None:
        """free, but the block is used again only when what (device, stream) have to do now is done."""
    def tier(self, address: int) -> str: ...
    def usable(self, address: int) -> int:
        """Bytes of the block, at least those asked for."""
    def reserve(self, bytes: int) -> None:
        """Takes memory from the system now, touched by several threads."""
    def trim(self, keep: int = 0) -> int:
        """Gives unused memory back; returns how many bytes went."""
    @property
    def has_streams(self) -> bool:
        """Whether there is a GPU, whose streams blocks may have to wait for."""
    @property
    def held(self) -> int:
        """Bytes taken from the system."""
    def stats(self) -> dict[str, Any]: ...
    def reasons(self) -> list[str]:
        """Why memory is of a lower tier than was asked for."""

class _HasBuffer:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class HostBlock(_HasBuffer):
    """Memory of a HostPool as a buffer; freed when the last view has died."""

    def __init__(
        self, pool: HostPool, shape: Sequence[int], item_bytes: int, format: str, alignment: int
    ) -> None: ...
    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def tier(self) -> str: ...
    def wait_for_stream(self, device: int, stream: int) -> None:
        """The memory is used again only when what the stream has to do at free is done."""
    def free(self) -> bool:
        """Gives the memory back now; False where a view still has it."""

def time_pool_pairs(pool: HostPool, bytes: int, pairs: int) -> float:
    """Seconds of one allocate and free by one thread."""

def time_pool_remote_pairs(pool: HostPool, bytes: int, pairs: int) -> float:
    """Seconds of one allocate by a thread and free by another."""

def time_touch(bytes: int) -> float:
    """Seconds in which one thread touches every page of new memory."""

def time_pool_reserve(bytes: int, threads: int = 0, huge_pages: bool = True) -> float:
    """Seconds in which a new pool reserves memory."""

class RecordSummary:
    """Counts over records of one layout.

    `fields`: (type, offset, count, missing) of each; a type is NumPy's name of a dtype, "bfloat16", or
    "bytes" for one text of `count` bytes. `distinct`: digests that are kept, 0 for no search for copies.
    """

    def __init__(
        self,
        bytes: int,
        fields: Sequence[tuple[str, int, int, float | None]],
        label: int | None,
        classes: int,
        distinct: int,
    ) -> None: ...
    def add(self, address: int, rows: int, stride: int) -> None:
        """Takes in records that lie `stride` bytes apart."""
    def snapshot(self) -> dict[str, Any]:
        """What was counted so far: records, fields, classes, distinct."""

class RaggedSummary:
    """Counts over records that differ in size; with names above 0, over JSON objects."""

    def __init__(self, names: int, label: str, classes: int, distinct: int) -> None: ...
    def add(self, address: int, offsets: NDArray[np.int64]) -> None:
        """Takes in the records between the offsets."""
    def snapshot(self) -> dict[str, Any]:
        """What was counted so far: records, sizes, classes, distinct, malformed, members, other_members."""
