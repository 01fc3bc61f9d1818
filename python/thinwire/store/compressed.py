"""Files that may be compressed, as their names say: read as a stream, written again as they were.

However far a file expands, reading takes no more memory than the caller's buffer and the decoder's window.
"""

from __future__ import annotations

import contextlib
import gzip
import secrets
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from thinwire.errors import CorruptRecord
from thinwire.store.coding import DEFAULT_LEVEL, zstandard

_GZIP, _ZSTD = ".gz", ".zst"
_GZIP_LEVEL = 6  # the default of the program gzip
_LEAST_WINDOW, _MOST_WINDOW = 1 << 10, 1 << 31  # of zstd's decoder
_MARK_BYTES = 16


class Source(Protocol):
    """Where bytes come from."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of a buffer; how much of it, 0 at the end."""
        ...


@contextlib.contextmanager
def reading(path: Path, size: int, most_window: int, tell: Callable[[int], None]) -> Iterator[Source]:
    """The content of a file of `size` bytes; `tell` hears of how many of them are read.

    A decoder looks back over `most_window` bytes at most. Raises CorruptRecord for compressed data that is
    damaged or cut off, or that needs a larger window.
    """
    with path.open("rb", buffering=0) as file:
        head = _Head(file, size, tell)
        kind = path.suffix.lower()
        if kind == _GZIP:
            unpacked = cast(Source, gzip.GzipFile(fileobj=cast(Any, head), mode="rb"))
            yield _Checked(unpacked, path, gzip.BadGzipFile, zlib.error)
        elif kind == _ZSTD:
            yield _Checked(_ZstdSource(head, most_window), path, zstandard().ZstdError)
        else:
            yield head


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A new file, whose content is compressed if its name says so: always to the same bytes."""
    with path.open("xb") as file:
        kind = path.suffix.lower()
        if kind == _GZIP:
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        elif kind == _ZSTD:
            compressor = zstandard().ZstdCompressor(level=DEFAULT_LEVEL, write_checksum=True)
            with compressor.stream_writer(file, closefd=False) as packed:
                yield packed
        else:
            yield file


class _Head:
    """The first bytes of a file: one that grows has an end, too."""

    def __init__(self, file: FileIO, size: int, tell: Callable[[int], None]) -> None:
        self._file, self._left, self._tell = file, size, tell

    def read(self, size: int) -> bytes:
        memory = bytearray(min(size, self._left))
        return bytes(memory[: self.readinto(memoryview(memory))])

    def readinto(self, buffer: memoryview, /) -> int:
        got = self._file.readinto(buffer[: self._left])
        self._left -= got
        self._tell(got)
        return got


class _Checked:
    """A source that raises such errors where its file is damaged."""

    def __init__(self, source: Source, path: Path, *errors: type[Exception]) -> None:
        self._source, self._path = source, path
        self._errors: tuple[type[Exception], ...] = (EOFError, *errors)

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._source.readinto(buffer)
        except self._errors as error:
            raise CorruptRecord(
                f"{self._path} cannot be unpacked ({error}); take it from a copy, or give more "
                "memory if that is what it needs",
                str(self._path),
            ) from None


class _ZstdSource:
    """The content of zstd frames.

    The package does not tell a frame that is cut off from one that is whole. So another frame follows the
    file's own, and its content must come out at the end.
    """

    def __init__(self, head: _Head, most_window: int) -> None:
        zstd = zstandard()
        self._mark, self._held = secrets.token_bytes(_MARK_BYTES), b""
        self._frame = zstd.ZstdCompressor(write_checksum=True).compress(self._mark)
        self._head = head
        window = min(max(most_window, _LEAST_WINDOW), _MOST_WINDOW)
        self._reader = zstd.ZstdDecompressor(max_window_size=window).stream_reader(
            self, read_across_frames=True
        )

    def read(self, size: int) -> bytes:
        """What the decoder is given: the file, then the frame that is ours."""
        data = self._head.read(size)
        if not data:
            data, self._frame = self._frame[:size], self._frame[size:]
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        content = b""
        while not content:
            got = self._reader.read(len(buffer))
            if not got and self._held == self._mark:
                return 0
            if not got:
                raise EOFError("it is cut off")
            both = self._held + got
            content, self._held = both[:-_MARK_BYTES], both[-_MARK_BYTES:]
        buffer[: len(content)] = content
        return len(content)
