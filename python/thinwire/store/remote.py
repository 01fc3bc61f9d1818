"""A store on any filesystem that fsspec knows: object stores, and this process's memory."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from thinwire._filesystem import open_filesystem
from thinwire.errors import Conflict, NotFound, StoreError
from thinwire.store.backend import PROBES, Buffer, Entry, check_path, conflict, cut_off, failure

_Result = TypeVar("_Result")
_PRECONDITION_FAILED = re.compile(r"PreconditionFailed|ConditionalRequestConflict|(?<![\w/.-])412(?![\w/.-])")


class RemoteBackend:
    """Objects below an fsspec URL; `options` go to the filesystem, as credentials and endpoints do.

    Writing needs a filesystem that creates an object only where none is, and whole. Whether it does is tried
    out before the first write. `single_writer` promises that nobody else writes or collects, ever; then any
    will do.
    """

    def __init__(self, url: str, *, single_writer: bool = False, **options: Any) -> None:
        self._fs, root = open_filesystem(url, options, StoreError)
        self._root = root.rstrip("/")
        self._url, self._single_writer = url, single_writer
        self._writable = False
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self._url

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        where = self._at(path)
        if size == 0:
            return b""
        end = None if size is None else offset + size
        data: bytes = _told("reading", path, lambda: self._fs.cat_file(where, start=offset, end=end))
        if size is not None and len(data) != size:
            raise cut_off(path, offset + len(data), size - len(data))
        return data

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        view = memoryview(buffer).cast("B")
        view[:] = self.read(path, offset, len(view))

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        where = self._at(path)
        self._check_writable()
        data = parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
        try:
            _told("writing", path, lambda: self._put(where, data))
        except Conflict:
            # The filesystem may have asked again after a lost answer; only our own object has our bytes.
            if self.read(path) != data:
                raise

    def list(self, prefix: str) -> Iterator[Entry]:
        where = self._at(prefix.rstrip("/")) if prefix else self._root
        for full, info in _told("listing", prefix, lambda: self._find(where)).items():
            yield Entry(self._relative(full), int(info["size"] or 0))

    def delete(self, path: str) -> None:
        where = self._at(path)
        with contextlib.suppress(NotFound):
            _told("deleting", path, lambda: self._fs.rm_file(where))

    def exists(self, path: str) -> bool:
        where = self._at(path)
        self._fs.invalidate_cache()
        return bool(_told("looking at", path, lambda: self._fs.exists(where)))

    def age(self, path: str) -> float:
        """By the clock that stamps new objects: that of the object store."""
        born = self._modified(path)
        probe = PROBES + secrets.token_hex(16)
        self.create(probe, [b""])
        try:
            return float((self._modified(probe) - born).total_seconds())
        finally:
            self.delete(probe)

    def map(self, path: str) -> memoryview | None:
        return None

    def tidy(self, older_than_s: float) -> None:
        for entry in list(self.list(PROBES)):
            with contextlib.suppress(NotFound):
                if self.age(entry.path) > older_than_s:
                    self.delete(entry.path)

    def _at(self, path: str) -> str:
        return f"{self._root}/{check_path(path)}"

    def _relative(self, full: str) -> str:
        return full.lstrip("/").removeprefix(self._root.lstrip("/")).lstrip("/")

    def _find(self, where: str) -> dict[str, Any]:
        self._fs.invalidate_cache()  # what others wrote since must be seen
        try:
            found: dict[str, Any] = self._fs.find(where, detail=True)
        except FileNotFoundError:
            return {}
        return {path: info for path, info in found.items() if info.get("type", "file") == "file"}

    def _modified(self, path: str) -> Any:
        where = self._at(path)
        self._fs.invalidate_cache()
        return _told("looking at", path, lambda: self._fs.modified(where))

    def _put(self, where: str, data: Buffer) -> None:
        if self._single_writer:
            self._move_into_place(where, data)
        else:
            self._fs.pipe_file(where, data, mode="create")

    def _move_into_place(self, where: str, data: Buffer) -> None:
        """Write under another name first, so that nobody sees a part of it."""
        self._fs.invalidate_cache()
        if self._fs.exists(where):
            raise FileExistsError(where)
        temporary = f"{self._root}/{PROBES}{secrets.token_hex(16)}"
        self._fs.makedirs(f"{self._root}/{PROBES}", exist_ok=True)
        self._fs.makedirs(where.rpartition("/")[0], exist_ok=True)
        try:
            self._fs.pipe_file(temporary, data)
            self._fs.mv(temporary, where)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _check_writable(self) -> None:
        """Raise StoreError unless a second create of one path fails here, and the first stays as it was."""
        with self._lock:
            if self._writable:
                return
            if not self._single_writer:
                probe = f"{self._root}/{PROBES}{secrets.token_hex(16)}"
                if not (_puts_whole_objects(self._fs) and self._keeps_the_first(probe)):
                    raise StoreError(
                        f"{self._url}: this filesystem does not create an object only where none is, or not "
                        "whole, so writers would overwrite each other; pass single_writer=True if nobody "
                        "else ever writes"
                    )
            self._writable = True

    def _keeps_the_first(self, probe: str) -> bool:
        _told("writing", probe, lambda: self._put(probe, b"first"))
        try:
            _told("writing", probe, lambda: self._put(probe, b"second"))
        except Conflict:
            return bool(_told("reading", probe, lambda: self._fs.cat_file(probe)) == b"first")
        except StoreError:
            return False
        finally:
            self._fs.rm_file(probe)
        return False


def _puts_whole_objects(fs: Any) -> bool:
    """Whether a write is one request. fsspec's own pipe_file opens, writes and closes: others see parts."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    while isinstance(getattr(fs, "fs", None), AbstractFileSystem):
        fs = fs.fs  # a wrapper passes the write on
    if isinstance(fs, AsyncFileSystem):
        return type(fs)._pipe_file is not AsyncFileSystem._pipe_file
    return type(fs).pipe_file is not AbstractFileSystem.pipe_file


def _told(doing: str, path: str, work: Callable[[], _Result]) -> _Result:
    """Turn the errors that filesystems raise, each its own, into StoreErrors that name the object."""
    try:
        return work()
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{doing} {path}: there is no such object") from error
    except FileExistsError as error:
        raise conflict(path) from error
    except OSError as error:
        if _PRECONDITION_FAILED.search(repr(error)):
            raise conflict(path) from error
        raise failure(error, doing, path) from error
    except Exception as error:  # client libraries have errors of their own
        if _PRECONDITION_FAILED.search(repr(error)):
            raise conflict(path) from error
        raise StoreError(f"{doing} {path}: {type(error).__name__}: {error}") from error
