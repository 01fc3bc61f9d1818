"""A store in a folder. An object is written under another name, synced, then linked to its own."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thinwire._durable import TEMPORARY, CannotTakeName, sync, take_name
from thinwire.errors import NotFound, StoreError
from thinwire.store.backend import Buffer, Entry, check_path, conflict, cut_off, failure, is_no_space

_MOST_PARTS = 1024  # Linux: IOV_MAX


class _SyncFailed(OSError):
    """An fsync failed: the kernel may have dropped the pages and call them clean. A second one would lie."""


class LocalBackend:
    """Objects as files below `root`, which is made with the first of them."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._durable: set[Path] = set()  # folders whose own entries this process knows to be on the disk

    def __str__(self) -> str:
        return str(self.root)

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        with _told("reading", path), _opened(self._file(path)) as descriptor:
            if size is None:
                size = max(0, os.fstat(descriptor).st_size - offset)
            parts, done = [], 0
            while done < size:
                parts.append(os.pread(descriptor, size - done, offset + done))
                if not parts[-1]:
                    raise cut_off(path, offset + done, size - done)
                done += len(parts[-1])
            return b"".join(parts)

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        left = memoryview(buffer).cast("B")
        with _told("reading", path), _opened(self._file(path)) as descriptor:
            while len(left):
                done = os.preadv(descriptor, [left], offset)
                if not done:
                    raise cut_off(path, offset, len(left))
                left, offset = left[done:], offset + done

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        target = self._file(path)
        if target.exists():
            raise conflict(path)  # before its bytes are written for nothing
        with _told("writing", path):
            try:
                self._make_durable(target.parent)
                temporary = _written(target.parent, parts)
                try:
                    _publish(temporary, target, path)
                finally:
                    temporary.unlink(missing_ok=True)
                # From here on others may have seen the object: whatever fails, it stays.
                sync(target.parent)
            except FileNotFoundError as error:
                self._durable.clear()
                raise StoreError(f"writing {path}: its folder vanished meanwhile; do it again") from error

    def list(self, prefix: str) -> Iterator[Entry]:
        folder = self.root / check_path(prefix.rstrip("/")) if prefix else self.root
        return self._entries(folder, prefix)

    def delete(self, path: str) -> None:
        with _told("deleting", path), contextlib.suppress(FileNotFoundError):
            self._file(path).unlink()
            sync(self._file(path).parent)  # else a power cut may undo it, and not what came after it

    def exists(self, path: str) -> bool:
        return self._file(path).exists()

    def age(self, path: str) -> float:
        """By the clock of the filesystem, which may be a server's: the time it gives to a new file."""
        with _told("looking at", path):
            born = self._file(path).stat().st_mtime
            descriptor, probe = _open_temporary(self.root)
            try:
                return os.fstat(descriptor).st_mtime - born
            finally:
                os.close(descriptor)
                probe.unlink(missing_ok=True)

    def map(self, path: str) -> memoryview | None:
        with _told("mapping", path), _opened(self._file(path)) as descriptor:
            if not os.fstat(descriptor).st_size:
                return memoryview(b"")  # which cannot be mapped
            return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))

    def tidy(self, older_than_s: float) -> None:
        for folder, _, files in os.walk(self.root):
            for name in files:
                if name.startswith(TEMPORARY):
                    path = Path(folder, name).relative_to(self.root).as_posix()
                    with contextlib.suppress(NotFound):  # its owner was faster
                        if self.age(path) > older_than_s:
                            self.delete(path)

    def _file(self, path: str) -> Path:
        return self.root / check_path(path)

    def _entries(self, folder: Path, prefix: str) -> Iterator[Entry]:
        with _told("listing", prefix or str(folder)), contextlib.suppress(FileNotFoundError):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.is_dir():
                    yield from self._entries(Path(entry.path), f"{prefix}{entry.name}/")
                elif not entry.name.startswith(TEMPORARY):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        yield Entry(prefix + entry.name, entry.stat().st_size)

    def _make_durable(self, folder: Path) -> None:
        """Make a folder, and see to it that it outlives a power cut, whoever made it."""
        if folder in self._durable:
            return
        if folder != self.root:
            self._make_durable(folder.parent)
            folder.mkdir(exist_ok=True)
            sync(folder.parent)
        else:
            for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
                missing.mkdir(exist_ok=True)
                sync(missing.parent)
        self._durable.add(folder)


def _written(folder: Path, parts: Sequence[Buffer]) -> Path:
    """A new temporary file of these bytes that is on the disk. After a failed sync it is made anew, once."""
    for last in (False, True):
        descriptor, temporary = _open_temporary(folder)
        try:
            try:
                _write_all(descriptor, parts)
                _sync(descriptor)
            finally:
                os.close(descriptor)
            return temporary
        except _SyncFailed as error:
            temporary.unlink(missing_ok=True)
            if last or is_no_space(error):
                raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    raise AssertionError("unreachable")


def _open_temporary(folder: Path) -> tuple[int, Path]:
    path = folder / (TEMPORARY + secrets.token_hex(8))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path


def _write_all(descriptor: int, parts: Sequence[Buffer]) -> None:
    left = [view for view in (memoryview(part).cast("B") for part in parts if len(part)) if len(view)]
    left.reverse()
    while left:
        done = os.writev(descriptor, left[: -_MOST_PARTS - 1 : -1])
        while done:
            view = left.pop()
            if done < len(view):
                left.append(view[done:])
            done -= min(done, len(view))


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _SyncFailed(error.errno, error.strerror) from error


def _publish(temporary: Path, target: Path, path: str) -> None:
    """Give a finished file its name. Raises Conflict where the name is taken."""
    try:
        take_name(temporary, target)
    except FileExistsError:
        raise conflict(path) from None
    except CannotTakeName:
        raise StoreError(
            f"{target}: this filesystem can neither link files nor rename them without replacing, so several "
            "writers would overwrite each other; keep the store on another filesystem"
        ) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(doing: str, path: str) -> Iterator[None]:
    """Turn the operating system's errors into StoreErrors that name the object."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise failure(error, doing, path) from error
