"""Files at fsspec URLs, read through the disk cache."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from thinwire import _core
from thinwire._filesystem import open_filesystem
from thinwire.data.disk_cache import DiskCache
from thinwire.data.files import Source, all_of
from thinwire.errors import InvalidArgument

_FETCHERS = 4
_PART = 16 << 20
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation", "version_id", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")

_Result = TypeVar("_Result")


class RemoteFile:
    """A file at a URL. What is cached of it belongs to the version that was there when it was looked at."""

    def __init__(self, url: str, cache: DiskCache, options: dict[str, Any]) -> None:
        self.name, self._cache, self._options = url, cache, options
        self._process, self._fs, self._path = -1, None, ""
        self.size, self._version = self._look()
        self._key = _core.blake3(f"{url}\0{self.size}\0{self._version}".encode()).hex()

    @property
    def cached(self) -> Path:
        """Where it lies when it has been fetched."""
        return self._cache.path_of(self._key)

    def is_here(self) -> bool:
        """Whether it has been fetched, and is still there."""
        return self._cache.holds(self._key, self.size)

    def read(self, offset: int, size: int) -> bytes:
        if not size:
            return b""
        fs, path = self._filesystem()
        data: bytes = _told(self.name, lambda: fs.cat_file(path, start=offset, end=offset + size))
        return all_of(data, size, offset, self.name)

    def local(self) -> Path:
        return self._cache.fetch(
            self._key, self.size, lambda file: _told(self.name, lambda: self._copy(file))
        )

    def check(self) -> None:
        """Does nothing: it would ask the server for every file. What is fetched is compared then."""

    def _copy(self, file: BinaryIO) -> None:
        fs, path = self._filesystem()
        with fs.open(path, "rb") as source:
            shutil.copyfileobj(source, file, _PART)
        if self._look() != (self.size, self._version):
            raise InvalidArgument(f"{self.name} was changed since the reader was made; make a new reader")

    def _look(self) -> tuple[int, str]:
        """Its size, and what tells its versions apart."""
        fs, path = self._filesystem()
        info = _told(self.name, lambda: fs.info(path))
        if info.get("type") == "directory" or info.get("size") is None:
            raise InvalidArgument(f"{self.name} is no file whose size is known; name the files in it")
        facts = {name: str(info[name]) for name in (*_VERSIONS, *_TIMES) if info.get(name) is not None}
        return int(info["size"]), json.dumps(facts, sort_keys=True)

    def _filesystem(self) -> tuple[Any, str]:
        """A filesystem of this process: those of fsspec do not survive a fork."""
        if self._process != os.getpid():
            self._fs, self._path = open_filesystem(self.name, self._options, InvalidArgument)
            self._process = os.getpid()
        return self._fs, self._path

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": -1, "_fs": None}


class RemoteFiles:
    """Fetches the remote ones of a reader's files, which are known by their numbers."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._files = {number: each for number, each in enumerate(sources) if isinstance(each, RemoteFile)}
        self._reset()

    def among(self, files: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which of these files are remote."""
        return np.isin(files, list(self._files))

    def start(self, files: NDArray[np.uint32]) -> list[Future[Path]]:
        """Fetch those of these files that are not there, in the background."""
        return [
            self._start(number)
            for number in np.unique(files).tolist()
            if number in self._files and not self._files[number].is_here()
        ]

    def fetch(self, files: NDArray[np.uint32]) -> None:
        """Return when these files are there. Raises OSError, which names the URL, where one cannot be had."""
        coming = self.start(files)
        while any(each.cancelled() for each in coming):  # by somebody who did not know of this
            coming = self.start(files)
        for each in coming:
            each.result()

    def cancel(self) -> None:
        """Do not begin what has only been announced."""
        with self._lock:
            for future in self._under_way.values():
                future.cancel()

    def _start(self, number: int) -> Future[Path]:
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_FETCHERS, "thinwire-fetch")
            known = self._under_way.get(number)
            if known is None or known.done():
                known = self._under_way[number] = self._pool.submit(self._files[number].local)
            return known

    def _reset(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._pool = None
        self._under_way: dict[int, Future[Path]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _told(url: str, work: Callable[[], _Result]) -> _Result:
    """Turn the errors that filesystems raise, each its own, into OSErrors that name the URL."""
    try:
        return work()
    except (InvalidArgument, ImportError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
    except Exception as error:  # client libraries have errors of their own
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", url) from error
