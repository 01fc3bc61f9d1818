"""The files that records lie in: found, and looked at before they are read natively."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from thinwire.data.faults import corrupt
from thinwire.data.layout import Place
from thinwire.errors import InvalidArgument, NotFound

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Source(Protocol):
    """A file of records, wherever it lies. `name` is what errors call it, `size` in bytes."""

    name: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Some of its bytes, all of them there. Raises CorruptRecord where it ends before."""
        ...

    def local(self) -> Path:
        """The file as it lies on this machine, fetched if it has to be."""
        ...

    def check(self) -> None:
        """Raise InvalidArgument where it is not the file any more that it was."""
        ...


class LocalFile:
    """A regular file. Raises OSError, which names it, where it cannot be looked at."""

    def __init__(self, path: Path) -> None:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise InvalidArgument(f"{path} is no regular file; copy what it gives to one")
        self.path, self.name = path, str(path)
        self.size, self._mtime_ns = info.st_size, info.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        return all_of(data, size, offset, self.name)

    def local(self) -> Path:
        return self.path

    def check(self) -> None:
        info = self.path.stat()
        if (info.st_size, info.st_mtime_ns) != (self.size, self._mtime_ns):
            raise InvalidArgument(
                f"{self.path} was changed since the reader was made: it had {self.size} bytes then, and has "
                f"{info.st_size} now; make a new reader"
            )


def all_of(data: bytes, size: int, offset: int, name: str) -> bytes:
    """The data. Raises CorruptRecord where it is not of this size."""
    if len(data) != size:
        raise corrupt(Place(name), f"it ends at byte {offset + len(data)}: it is cut off")
    return data


def expand(paths: Paths) -> list[str]:
    """One path or several as text. A pattern stands for what fits it, a folder for the files in it; both are
    sorted and without hidden files.

    Raises NotFound for a pattern or folder without files, InvalidArgument for no path at all.
    """
    several: Iterable[str | os.PathLike[str]]
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    found = [each for path in several for each in _files_of(os.fspath(path))]
    if not found:
        raise InvalidArgument("there are no files to read; pass a path, a URL, or several of them")
    return found


def is_url(path: str) -> bool:
    """Whether fsspec has to say where this lies."""
    return "://" in path


def _files_of(path: str) -> Iterator[str]:
    if is_url(path):
        yield path
    elif Path(path).is_dir():
        inside = [each for each in Path(path).iterdir() if each.is_file() and not each.name.startswith(".")]
        yield from _sorted(inside, f"there are no files in the folder {path}")
    elif glob.has_magic(path) and not Path(path).exists():
        yield from _sorted(map(Path, glob.glob(path)), f"no file fits the pattern {path}")  # noqa: PTH207
    else:
        yield path


def _sorted(files: Iterable[Path], complaint: str) -> list[str]:
    found = [str(each) for each in sorted(files)]
    if not found:
        raise NotFound(complaint)
    return found
