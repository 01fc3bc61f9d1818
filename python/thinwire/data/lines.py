"""Where the lines of a text file begin and end, found once and kept in a file if asked for."""

from __future__ import annotations

import contextlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire import _core
from thinwire._durable import replacing
from thinwire.data.faults import corrupt
from thinwire.data.files import Source
from thinwire.data.layout import Place, VariedLayout

_NEWLINE, _RETURN = b"\n\r"
_BLOCK = 4 << 20
_SUFFIX = ".lines"

Ends = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def line_layout(source: Source, *, blank: bool, kept_in: str | None, threads: int) -> VariedLayout:
    """The lines of a file, without their newlines.

    `blank` says whether empty lines, and those of one carriage return, are records as well.

    `kept_in`: None, "beside", or a folder for a file that holds what was found. It is used again while size
    and time of the text stay the same. That it cannot be read or written is no error.
    """
    path = source.local()
    kept = _kept_path(path, kept_in)
    ends = _load(kept, path) if kept else None
    if ends is None:
        before = _state_of(path)
        ends = find_line_ends(path, source.size, threads)
        if kept and before == _state_of(path) and before.size == source.size:
            with contextlib.suppress(OSError):
                _save(kept, before, ends)
    found = _layout_of(ends, source.size)
    return found if blank else _without_blank(found, path)


def find_line_ends(path: Path, size: int, threads: int) -> Ends:
    """The first byte behind each newline, int64 of shape (newlines,).

    Raises CorruptRecord for a file that shrinks.
    """

    def ends_in_block(begin: int) -> Ends:
        block = _read(file, begin, min(begin + _BLOCK, size), path)
        return np.flatnonzero(block == _NEWLINE) + (begin + 1)

    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(threads) as pool:
        return np.concatenate([np.zeros(0, np.int64), *pool.map(ends_in_block, range(0, size, _BLOCK))])


def _read(file: FileIO, begin: int, end: int, path: Path) -> Bytes:
    block = os.pread(file.fileno(), end - begin, begin)
    if len(block) < end - begin:
        now = os.fstat(file.fileno()).st_size
        raise corrupt(Place(str(path)), f"it has {now} bytes now, and had at least {end}")
    return np.frombuffer(block, np.uint8)


def _layout_of(ends: Ends, size: int) -> VariedLayout:
    if size and (not len(ends) or ends[-1] < size):
        ends = np.append(ends, size + 1)  # as if the last line had a newline
    starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
    return VariedLayout(starts, ends - starts - 1)


def _without_blank(lines: VariedLayout, path: Path) -> VariedLayout:
    """The lines that hold more than the carriage return of another system's line end.

    Raises CorruptRecord for a file that shrinks.
    """
    kept = lines.sizes > 0
    short = np.flatnonzero(lines.sizes == 1)
    kept[short] = _bytes_at(lines.offsets[short], path) != _RETURN
    return VariedLayout(lines.offsets[kept], lines.sizes[kept])


def _bytes_at(offsets: Ends, path: Path) -> Bytes:
    """Single bytes of a file. The offsets ascend."""
    blocks = np.split(offsets, np.flatnonzero(np.diff(offsets // _BLOCK)) + 1) if len(offsets) else []
    with path.open("rb", buffering=0) as file:
        found = [_read(file, each[0], each[-1] + 1, path)[each - each[0]] for each in blocks]
    return np.concatenate([np.zeros(0, np.uint8), *found])


class _Head(NamedTuple):
    """How a kept index begins: magic, version, size and time of the text, number and XXH3-64 of the ends."""

    magic: bytes
    version: int
    size: int
    mtime_ns: int
    lines: int
    checksum: int


_HEAD = struct.Struct("<4sIqqqQ")
_MAGIC, _VERSION = b"TWLX", 1


def _kept_path(path: Path, kept_in: str | None) -> Path | None:
    if kept_in is None:
        return None
    if kept_in == "beside":
        return path.with_name(f".{path.name}{_SUFFIX}")
    folder = Path(kept_in)
    folder.mkdir(parents=True, exist_ok=True)
    name = _core.xxh3_128(str(path.resolve()).encode()).hex()
    return folder / (name + _SUFFIX)


class _State(NamedTuple):
    """By what a text that has changed is told."""

    size: int
    mtime_ns: int


def _state_of(path: Path) -> _State:
    info = path.stat()
    return _State(info.st_size, info.st_mtime_ns)


def _head_of(state: _State, ends: NDArray[Any]) -> _Head:
    return _Head(_MAGIC, _VERSION, *state, len(ends), _core.xxh3_64(ends.data))


def _save(kept: Path, state: _State, ends: Ends) -> None:
    with replacing(kept) as file:
        file.write(_HEAD.pack(*_head_of(state, ends)))
        file.write(ends.astype("<i8", copy=False).data)


def _load(kept: Path, path: Path) -> Ends | None:
    """What was kept; None where there is nothing, or it is damaged or of another state of the text."""
    try:
        data = kept.read_bytes()
    except OSError:
        return None
    if len(data) < _HEAD.size or (len(data) - _HEAD.size) % 8:
        return None
    ends = np.frombuffer(data, "<i8", offset=_HEAD.size)
    fits = _HEAD.unpack_from(data) == _head_of(_state_of(path), ends)
    return ends.astype(np.int64, copy=False) if fits else None
