"""How one chunk is stored: raw, compressed, or as planes of bytes each compressed for itself.

A chunk of floats compresses badly as it lies: exponents repeat, mantissas are noise, and one entropy table
serves both. Split into planes (byte k of every element), exponents shrink and mantissas stay raw. A sample
tells what pays; what comes out is never larger than the chunk.
"""

from __future__ import annotations

import importlib
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion

RAW, ZSTD, PLANES2, PLANES4 = range(4)
NAMES = ("raw", "zstd", "planes2", "planes4")
MOST_CHUNK_BYTES = 64 << 20
DEFAULT_LEVEL = 3  # of zstd

_PLANE_WIDTH = {PLANES2: 2, PLANES4: 4}
_CODING_OF_WIDTH = {width: coding for coding, width in _PLANE_WIDTH.items()}
_LEAST_BYTES = 128  # below this a frame's header eats the gain
_INCOMPRESSIBLE = 7.9  # bits a byte
# Bits by which n samples of uniform bytes look less than 8, times n (Miller 1955).
_ENTROPY_BIAS = 255 / (2 * np.log(2))
_SAMPLE_BYTES = 64 << 10  # of what `plane_entropies` is given it looks at so many
_RUNS, _LEAST_RUN_BYTES = 8, 512  # of a sample
_TRIED_BYTES = 8 << 10
_CHANCE_BITS = 0.1  # a byte
_FAST_LEVEL, _FAST_BITS = 1, 6.4  # up to this level, floats that would not shrink by a fifth stay raw
_PLANES = -(1 << 10)  # no level of zstd
_local = threading.local()

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Coded:
    """A chunk as it is stored: the parts one after the other make its payload."""

    coding: int
    parts: Sequence[Buffer]
    size: int


def encode(chunk: memoryview, level: int, element_size: int | None = None) -> Coded:
    """Code one chunk (uint8, contiguous). `level` is zstd's, `element_size` in bytes a hint: 1, 2 or 4.

    At level 1 speed comes first: fp32 weights, of which planes would save a sixth, stay raw; bf16 does not.
    """
    if len(chunk) < _LEAST_BYTES:
        return _raw(chunk)
    planes = probe(chunk, element_size)
    if planes is not None and (planes.all_random or (level <= _FAST_LEVEL and planes.poor)):
        return _raw(chunk)
    if planes is not None and (planes.any_random or _planes_win(chunk, planes, level)):
        coded = _encode_planes(chunk, planes)
    else:
        coded = _encode_zstd(chunk, level)
    return coded if coded.size < len(chunk) else _raw(chunk)


def _raw(chunk: memoryview) -> Coded:
    return Coded(RAW, [chunk], len(chunk))


def decode(coding: int, payload: memoryview, out: memoryview) -> None:
    """Decode one chunk into `out`, whose length is the chunk's. Never writes or allocates beyond that.

    Raises CorruptChunk where the payload does not fit, FormatVersion for a coding of a later release.
    """
    if coding == RAW:
        _check(len(payload) == len(out))
        out[:] = payload
    elif coding == ZSTD:
        _decompress(payload, out)
    elif coding in _PLANE_WIDTH:
        _decode_planes(payload, coding, out)
    else:
        raise FormatVersion(f"coding {coding} is not known to this release; upgrade thinwire")


def probe(chunk: memoryview, element_size: int | None) -> Planes | None:
    """The planes that promise most, by a sample; None where a hint says that there are none."""
    sample = _sample(chunk)
    by_four = Planes(sample, 4)
    # Bytes as they lie mix the planes, and a mixture's entropy is no less than the mean of its parts'.
    if by_four.all_random or element_size == 4:
        return by_four
    if element_size not in (None, 2):
        return None
    by_two = Planes(sample, 2)
    # Of four planes one looks random more easily; the two must not lose by chance.
    return by_two if element_size == 2 or by_two.bits <= by_four.bits + _CHANCE_BITS else by_four


class Planes:
    """What planes of one width promise."""

    def __init__(self, sample: memoryview, width: int) -> None:
        entropies = _core.plane_entropies(sample, width)
        limit = _INCOMPRESSIBLE - _ENTROPY_BIAS * width / min(len(sample), _SAMPLE_BYTES)
        self.width = width
        self.random: list[bool] = (entropies > limit).tolist()
        self.bits = sum(8.0 if r else e for r, e in zip(self.random, entropies.tolist(), strict=True)) / width
        """A byte, where each plane is coded for itself and random ones are left alone."""

    @property
    def all_random(self) -> bool:
        return all(self.random)

    @property
    def poor(self) -> bool:
        """Whether little would be saved, and only by planes."""
        return self.any_random and self.bits > _FAST_BITS

    @property
    def any_random(self) -> bool:
        return any(self.random)


def _sample(chunk: memoryview) -> memoryview:
    """Some runs of bytes, spread over the chunk, that begin where elements do: a sixteenth of it or more."""
    run = max(_LEAST_RUN_BYTES, len(chunk) // (16 * _RUNS) // 4 * 4)
    step = len(chunk) // _RUNS // 4 * 4
    if step <= run:
        return chunk
    return np.frombuffer(chunk, np.uint8, step * _RUNS).reshape(_RUNS, step)[:, :run].reshape(-1).data


def _planes_win(chunk: memoryview, planes: Planes, level: int) -> bool:
    """Try planes and zstd on a part: where longer patterns repeat, entropies do not tell what zstd does."""
    begin = (len(chunk) - _TRIED_BYTES) // 2 // 4 * 4 if len(chunk) > _TRIED_BYTES else 0
    part = chunk[begin : begin + _TRIED_BYTES]
    return _encode_planes(part, planes).size < _encode_zstd(part, level).size


def _encode_zstd(chunk: memoryview, level: int) -> Coded:
    packed = _compressor(level).compress(chunk)
    return Coded(ZSTD, [packed], len(packed))


def _encode_planes(chunk: memoryview, planes: Planes) -> Coded:
    width, rows = planes.width, len(chunk) // planes.width
    split = _core.split_planes(chunk, width).data
    parts: list[Buffer] = []
    for k, random in enumerate(planes.random):
        plane = split[k * rows : (k + 1) * rows]
        packed = plane if random else _compressor(_PLANES).compress(plane)
        parts.append(packed if len(packed) < rows else plane)
    sizes = struct.pack(f"<{width}I", *map(len, parts))
    parts = [sizes, *parts, split[width * rows :]]
    return Coded(_CODING_OF_WIDTH[width], parts, sum(map(len, parts)))


def _decode_planes(payload: memoryview, coding: int, out: memoryview) -> None:
    width = _PLANE_WIDTH[coding]
    _check(len(payload) >= 4 * width)
    sizes = struct.unpack_from(f"<{width}I", payload)
    rows = len(out) // width
    tail = len(out) - rows * width
    _check(all(size <= rows for size in sizes) and 4 * width + sum(sizes) + tail == len(payload))
    planes = memoryview(bytearray(len(out)))
    at = 4 * width
    for k, size in enumerate(sizes):
        part, plane = payload[at : at + size], planes[k * rows : (k + 1) * rows]
        if size == rows:
            plane[:] = part
        else:
            _decompress(part, plane)
        at += size
    planes[width * rows :] = payload[at:]
    _core.merge_planes(planes, width, out)


def _decompress(payload: memoryview, out: memoryview) -> None:
    """One zstd frame that holds exactly `len(out)` bytes, straight into `out`."""
    zstd = zstandard()
    try:
        if zstd.frame_content_size(payload) != len(out):
            raise CorruptChunk("the compressed size does not fit")
        reader = _decompressor().stream_reader(payload)
        done = 0
        while done < len(out) and (got := reader.readinto(out[done:])):
            done += got
    except zstd.ZstdError as error:
        raise CorruptChunk(f"zstd: {error}") from None
    _check(done == len(out))


def _check(fits: bool) -> None:
    if not fits:
        raise CorruptChunk("the stored size does not fit")


def zstandard() -> Any:
    """The zstandard package. Raises ImportError that says how to install it."""
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        raise ImportError("a store needs the zstandard package: pip install 'thinwire[store]'") from error


def _compressor(level: int) -> Any:
    """This thread's own, as they are not made for several; `_PLANES` in place of a level is for planes."""
    known: dict[int, Any] = _local.__dict__.setdefault("compressors", {})
    if level not in known:
        zstd = zstandard()
        if level == _PLANES:
            # What is worth coding of a plane is its entropy: short matches would cost more than they save.
            strategy = {"strategy": zstd.STRATEGY_FAST, "min_match": 7, "hash_log": 10}
            settings = zstd.ZstdCompressionParameters.from_level(1, **strategy)
            known[level] = zstd.ZstdCompressor(compression_params=settings)
        else:
            known[level] = zstd.ZstdCompressor(level=level)
    return known[level]


def _decompressor() -> Any:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard().ZstdDecompressor(max_window_size=2 * MOST_CHUNK_BYTES)
    return _local.decompressor
