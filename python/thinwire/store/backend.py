"""What a store asks of the place it lies in: immutable objects under paths, created whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from thinwire.errors import Conflict, CorruptChunk, NotFound, StoreError

Buffer = bytes | bytearray | memoryview

CONFIG = "store.json"
"""Says that there is a store, and which."""

PROBES = "probes/"
"""Short-lived objects that tell a store's clock, or what its filesystem can do."""

_PART = re.compile(r"[A-Za-z0-9._-]+")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class Entry(NamedTuple):
    """An object that a listing found; `size` in bytes."""

    path: str
    size: int


class Backend(Protocol):
    """A place for objects. Safe for several threads. Errors are StoreErrors that name the object.

    Paths are relative, of parts of `A-Za-z0-9._-`; what is none raises StoreError before anything is touched.
    """

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of an object, all from `offset` on where size is None.

        Raises NotFound, and CorruptChunk where the object ends before offset + size.
        """
        ...

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        """Fill a writable buffer. Raises as `read`."""
        ...

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        """Create an object of these parts: whole, durable when this returns, and only where none is.

        Raises Conflict where there is one. After any other error the object may or may not be there, but
        never a part of it.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """The objects whose path begins with `prefix`, which is "" or ends with "/"; in any order."""
        ...

    def delete(self, path: str) -> None:
        """Delete an object, durably when this returns. That there is none is fine."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        ...

    def age(self, path: str) -> float:
        """Seconds since an object was created, by the store's own clock. Raises NotFound."""
        ...

    def map(self, path: str) -> memoryview | None:
        """The object as mapped memory, read-only, or None where this place cannot map."""
        ...

    def tidy(self, older_than_s: float) -> None:
        """Remove what operations that were cut off have left behind, if it is older than that."""
        ...


def check_path(path: str) -> str:
    """Return the path. Raises StoreError where it could lead out of a store."""
    parts = path.split("/")
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise StoreError(f"{path!r} is no path inside a store: what names it is damaged; run verify")
    return path


def failure(error: OSError, doing: str, path: str) -> StoreError:
    """The StoreError that says what an operating system's error means for an object."""
    if error.errno == errno.ENOENT:
        return NotFound(f"{doing} {path}: there is no such object")
    if is_no_space(error):
        advice = "no space is left; free some and do it again, nothing half-written is visible"
    elif error.errno in _NO_PERMISSION:
        advice = f"{error.strerror}; give this user the right to do that, or open the store elsewhere"
    else:
        advice = f"{error.strerror or error}; look after the disk or the connection, then do it again"
    made = StoreError(f"{doing} {path}: {advice}")
    made.errno = error.errno
    return made


def is_no_space(error: BaseException | None) -> bool:
    """Whether an error says that no space is left. What failed so did not happen."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def is_unwritable(error: StoreError) -> bool:
    """Whether an error says that nothing can be written here: no right to, or no space."""
    return error.errno in _NO_PERMISSION or is_no_space(error)


def conflict(path: str) -> Conflict:
    """The error of a create that came second."""
    return Conflict(f"{path} is there already")


def cut_off(path: str, end: int, missing: int) -> CorruptChunk:
    """The error of a read past the end of an object."""
    return CorruptChunk(f"{path} ends at byte {end}, {missing} bytes too early: it was cut off; run repair")


def backend_at(place: str | os.PathLike[str] | Backend) -> Backend:
    """The backend of a path or URL; what is one already stays as it is."""
    return backend_for(place) if isinstance(place, (str, os.PathLike)) else place


def backend_for(url: str | os.PathLike[str], *, single_writer: bool = False, **options: Any) -> Backend:
    """The backend of a path, a file:// URL, or any URL that fsspec knows; `options` go to fsspec.

    `single_writer` promises that nobody else ever writes or collects at the same time, for filesystems that
    cannot create an object only where none is.
    """
    from thinwire.store.local import LocalBackend

    text = os.fspath(url)
    protocol, separator, rest = text.partition("://")
    if not separator:
        return LocalBackend(Path(text))
    if protocol in ("file", "local"):
        return LocalBackend(Path(rest))
    from thinwire.store.remote import RemoteBackend

    return RemoteBackend(text, single_writer=single_writer, **options)
