"""Files that appear under their name whole and on the disk, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""How the names of files begin that are not finished."""


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


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
