"""Files from far away, kept on a local disk: so many bytes at most, those used last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from thinwire import _core
from thinwire._durable import TEMPORARY, replacing
from thinwire._sizes import format_size, parse_size
from thinwire.errors import InvalidArgument

DEFAULT_LIMIT = "32GiB"

_TRAILER = struct.Struct("<4sIQ16s")  # magic, version, bytes before the trailer, their XXH3-128
_MAGIC, _VERSION = b"TWCF", 1
_LOCKS = ".locks"
_ROOM = "room"  # the lock under which space is given out
_ABANDONED_S = 24 * 3600  # a download that is so old is nobody's any more
_TOUCH_S = 30  # so often a file in use is marked as used

Write = Callable[[BinaryIO], None]


class DiskCache:
    """A folder of whole files, shared by any number of processes.

    A file ends with a checksum, which is verified when a process uses the file for the first time; one that
    does not fit is fetched again. `limit` counts all files in the folder, which must hold nothing else; only
    what is fetched at the same time may exceed it.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int | str = DEFAULT_LIMIT) -> None:
        self.folder, self.limit = Path(folder).absolute(), parse_size(limit, "cache_limit")
        (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        self._reset()

    def path_of(self, key: str) -> Path:
        """Where the file of this key lies, if it is there. A key is a name for one content."""
        return self.folder / key

    def holds(self, key: str, size: int) -> bool:
        """Whether this process has used the file of this key before, and it is still there."""
        path = self.path_of(key)
        return path in self._verified and self._serves(path, size)

    def fetch(self, key: str, size: int, write: Write) -> Path:
        """The file of this key, of `size` bytes; `write` gets its content where it is not there.

        Raises InvalidArgument where it is larger than the limit, and what `write` raises.
        """
        path = self.path_of(key)
        if self._serves(path, size):
            return path
        if size + _TRAILER.size > self.limit:
            raise InvalidArgument(
                f"a file of {format_size(size)} does not fit into the cache {self.folder}; cache_limit is "
                f"{format_size(self.limit)}"
            )
        with self._alone(key):
            if not self._serves(path, size):
                self._write(path, size, write)
                self._verified.add(path)
                self._count(fetched=1, fetched_bytes=size)
                self._make_room(0)  # again: others may have fetched meanwhile
        return path

    def stats(self) -> dict[str, int]:
        """What this process did: files and bytes fetched, files thrown out, files found damaged."""
        return dict(self._counts)

    def _serves(self, path: Path, size: int) -> bool:
        """Whether a file is there and whole; marks it as used."""
        try:
            found = path.stat().st_size
            if found != size + _TRAILER.size or (path not in self._verified and not _is_whole(path, size)):
                path.unlink(missing_ok=True)
                self._count(damaged=1)
                return False
            if time.monotonic() - self._touched.get(path, -_TOUCH_S) >= _TOUCH_S:
                os.utime(path)
                self._touched[path] = time.monotonic()
        except FileNotFoundError:
            return False
        self._verified.add(path)
        return True

    def _write(self, path: Path, size: int, write: Write) -> None:
        with contextlib.ExitStack() as stack:
            with self._alone(_ROOM):
                self._make_room(size + _TRAILER.size)
                file = stack.enter_context(replacing(path))
                file.truncate(size + _TRAILER.size)  # counts from now on
            write(file)
            if file.tell() != size:
                raise InvalidArgument(
                    f"{file.tell()} bytes came, and {size} were announced: the file changed meanwhile"
                )
            file.flush()
            file.write(_trailer_of(_mapped(Path(file.name))[:size]))

    def _make_room(self, needed: int) -> None:
        """Throw out what was not used for longest."""
        files, total = [], needed
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process throws out as well
                info = entry.stat()
                if entry.is_file():
                    files.append((info.st_mtime, info.st_size, Path(entry.path)))
                    total += info.st_size
        now = time.time()
        for used, size, path in sorted(files):
            unfinished = path.name.startswith(TEMPORARY)
            if (now - used > _ABANDONED_S) if unfinished else (total > self.limit):
                path.unlink(missing_ok=True)
                total -= size
                self._count(thrown_out=1)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Nobody else fetches this key meanwhile. A process that dies lets go."""
        with (self.folder / _LOCKS / key).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._verified: set[Path] = set()
        self._touched: dict[Path, float] = {}
        self._counts = dict.fromkeys(("fetched", "fetched_bytes", "thrown_out", "damaged"), 0)

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "limit": self.limit}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._reset()


def _trailer_of(content: memoryview) -> bytes:
    return _TRAILER.pack(_MAGIC, _VERSION, len(content), _core.xxh3_128(content))


def _is_whole(path: Path, size: int) -> bool:
    content = _mapped(path)
    return bytes(content[size:]) == _trailer_of(content[:size])


def _mapped(path: Path) -> memoryview:
    return np.memmap(path, np.uint8, "r").data
