"""What `put` takes and `get` gives: buffers, streams, files, folder trees."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from thinwire._chunking import Profile, cuts
from thinwire._memory import byte_view
from thinwire.errors import CorruptChunk, InvalidArgument, NotFound, StoreError
from thinwire.store.backend import failure
from thinwire.store.index import CHUNK, Chunks
from thinwire.store.reader import Reader
from thinwire.store.writer import BLOCK_BYTES, Writer

_SMALL_BYTES = 1 << 20  # files up to this size are read and added many at a time
_FLOATS = {2, 4}

Described = dict[str, Any]


def add(writer: Writer, data: Any, profile: Profile | str) -> tuple[Chunks, Described]:
    """Add anything that `Store.put` takes; its chunks, and what the manifest says of it."""
    if isinstance(data, Path):
        with _told("reading", data):
            return _add_tree(writer, data, profile) if data.is_dir() else _add_file(writer, data, profile)
    if hasattr(data, "readinto") or hasattr(data, "read"):
        return writer.add_stream(_reading(data), profile), {"kind": "bytes"}
    return writer.add(data, profile, element_size=_element_size(data)), {"kind": "bytes"}


def size_of(data: Any) -> int | None:
    """The bytes that `add` will read; None for a stream."""
    if isinstance(data, Path):
        every = _walk(data) if data.is_dir() else [data]
        return sum(path.lstat().st_size for path in every if path.is_file() and not path.is_symlink())
    if hasattr(data, "readinto") or hasattr(data, "read"):
        return None
    return len(byte_view(data, "data"))


def write(reader: Reader, out: Path) -> None:
    """Restore a version as a file, or as a folder where it is a tree. Nothing half-written shows."""
    with _told("writing", out):
        _write(reader, out)


def _write(reader: Reader, out: Path) -> None:
    beside = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        if reader.metadata.get("kind") == "tree":
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise InvalidArgument(f"{out} exists; pass a folder that does not, or is empty")
            beside.mkdir()
            _write_tree(reader, beside)
        else:
            with beside.open("xb") as file:
                for window in reader.windows(BLOCK_BYTES * 4):
                    file.write(window)
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside) if beside.is_dir() else beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(doing: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into StoreErrors that name the file."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{doing} {path}: {error.filename or path} does not exist") from error
    except OSError as error:
        raise failure(error, doing, str(error.filename or path)) from error


def _element_size(data: Any) -> int | None:
    floats = isinstance(data, np.ndarray) and data.dtype.kind in "fV" and data.dtype.itemsize in _FLOATS
    return data.dtype.itemsize if floats else None


def _reading(stream: BinaryIO) -> Callable[[memoryview], int]:
    if readinto := getattr(stream, "readinto", None):
        return lambda block: readinto(block) or 0

    def read_into(block: memoryview) -> int:
        data = stream.read(len(block))
        block[: len(data)] = data
        return len(data)

    return read_into


def _add_file(writer: Writer, path: Path, profile: Profile | str) -> tuple[Chunks, Described]:
    with path.open("rb", buffering=0) as file:
        return writer.add_stream(_reading(file), profile), {"kind": "file"}


def _add_tree(writer: Writer, root: Path, profile: Profile | str) -> tuple[Chunks, Described]:
    """Every file is cut for itself, so that a file moved between folders is found again."""
    made: list[Chunks] = []
    entries: list[Described] = []
    small: list[bytes] = []
    small_bytes = 0

    def add_small() -> None:
        nonlocal small_bytes
        made.append(_add_small(writer, small, profile))
        small.clear()
        small_bytes = 0

    for path in _walk(root):
        entry = _describe(path, path.relative_to(root).as_posix())
        entries.append(entry)
        if entry["kind"] != "file":
            continue
        if entry["size"] <= _SMALL_BYTES:
            small.append(path.read_bytes())
            entry["size"] = len(small[-1])
            small_bytes += entry["size"]
            if small_bytes >= BLOCK_BYTES:
                add_small()
        else:
            add_small()
            chunks, _ = _add_file(writer, path, profile)
            entry["size"] = int(chunks["size"].sum())
            made.append(chunks)
    add_small()
    return np.concatenate([np.zeros(0, CHUNK), *made]), {"kind": "tree", "files": entries}


def _add_small(writer: Writer, files: list[bytes], profile: Profile | str) -> Chunks:
    ends, begin = [np.zeros(0, np.int64)], 0
    for data in files:
        if data:
            ends.append(cuts(data, profile) + begin)
        begin += len(data)
    return writer.add(b"".join(files), np.concatenate(ends))


def _walk(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _describe(path: Path, name: str) -> Described:
    info = path.lstat()
    entry: Described = {"path": name, "mode": stat.S_IMODE(info.st_mode), "mtime_ns": info.st_mtime_ns}
    if path.is_symlink():
        return entry | {"kind": "link", "target": str(path.readlink())}
    if path.is_dir():
        return entry | {"kind": "folder"}
    if not path.is_file():
        raise InvalidArgument(f"{path} is neither file, folder nor link; leave it out of the tree")
    return entry | {"kind": "file", "size": info.st_size}


def _write_tree(reader: Reader, root: Path) -> None:
    entries = reader.metadata["files"]
    _check_paths(entries)
    stream = _Stream(reader)
    for entry in entries:
        path = root / entry["path"]
        if entry["kind"] == "folder":
            path.mkdir()
        elif entry["kind"] == "link":
            path.symlink_to(entry["target"])
        else:
            with path.open("xb") as file:
                stream.copy(entry["size"], file)
            path.chmod(entry["mode"] & 0o777)
            os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    for entry in reversed(entries):  # last, for a folder may forbid writing, and writing changes its time
        if entry["kind"] == "folder":
            (root / entry["path"]).chmod(entry["mode"] & 0o777)
            os.utime(root / entry["path"], ns=(entry["mtime_ns"], entry["mtime_ns"]))


def _check_paths(entries: list[Described]) -> None:
    """Refuse what would be written outside the tree, by its own path or through a link of the tree."""
    folders = {PurePosixPath()}
    for entry in entries:
        path = PurePosixPath(entry["path"])
        if path.is_absolute() or ".." in path.parts or not path.parts or path.parent not in folders:
            raise CorruptChunk(
                f"the manifest names {entry['path']!r}, which is not inside its tree; nothing was written"
            )
        if entry["kind"] == "folder":
            folders.add(path)


class _Stream:
    """The bytes of a version, taken by and by."""

    def __init__(self, reader: Reader) -> None:
        self._windows = reader.windows(BLOCK_BYTES * 4)
        self._left = memoryview(b"")

    def copy(self, size: int, file: BinaryIO) -> None:
        """Write the next `size` bytes to `file`."""
        while size:
            if not len(self._left):
                window = next(self._windows, None)
                if window is None:
                    raise CorruptChunk("the manifest's files are longer than its chunks")
                self._left = window
            part = self._left[:size]
            file.write(part)
            self._left, size = self._left[len(part) :], size - len(part)
