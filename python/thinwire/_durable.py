"""Files that appear under their name whole and on the disk, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""How the names of files begin that are not finished."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class CannotTakeName(OSError):
    """A filesystem can neither link files nor rename them without replacing."""


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file to be written, which takes the name `target` at the end; after an exception it is gone."""
    temporary = temporary_beside(target)
    try:
        with temporary.open("xb") as file:
            yield file
            sync_file(file)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)


def temporary_beside(target: Path) -> Path:
    """A name that nobody else takes, in the folder of `target`."""
    return target.parent / (TEMPORARY + secrets.token_hex(8))


def take_name(temporary: Path, target: Path) -> None:
    """Give a finished file a name that nothing has; the temporary one may stay, for the caller to remove.

    Raises FileExistsError where the name is taken, CannotTakeName.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        # A network filesystem may have lost the answer and asked again: then the name is this very file's.
        if not (target.exists() and target.samefile(temporary)):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_without_replacing(temporary, target)


def _rename_without_replacing(temporary: Path, target: Path) -> None:
    """What filesystems without hard links can do instead."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        code = errno.ENOSYS
    elif rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    else:
        code = ctypes.get_errno()
    kind = CannotTakeName if code in (errno.ENOSYS, errno.EINVAL, *_NO_LINKS) else OSError
    raise kind(code, os.strerror(code), str(target))  # FileExistsError, where that is what it was


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if not (is_folder and error.errno in _NO_FOLDER_SYNC):  # some filesystems have nothing to sync there
            raise
    finally:
        os.close(descriptor)
