"""The files that records lie in: found, read line by line, and written without some of their lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire._memory import fill
from thinwire.errors import InvalidArgument, NotFound
from thinwire.store.compressed import Source

_NEWLINE = 10

Ends = NDArray[np.int64]


class Shard(NamedTuple):
    """One input file. `name` is where it goes below the output, `stamp` tells whether it has changed."""

    path: Path
    name: str
    size: int
    stamp: int

    def check(self) -> None:
        """Raises InvalidArgument where the file is not the one that was found."""
        if not self.path.is_file() or _stamp(self.path) != (self.size, self.stamp):
            raise self.changed()

    def changed(self) -> InvalidArgument:
        """The error of a file that does not hold still."""
        return InvalidArgument(f"{self.path} changed while it was read; do it again when nobody writes it")


class Lines(NamedTuple):
    """Whole lines of a file: their bytes, uint8[m], and where each one ends, its newline included.

    Of a file that does not end with a newline, the last line is given one; `completed` says so.
    """

    data: NDArray[np.uint8]
    ends: Ends
    completed: bool

    def without(self, dropped: NDArray[np.bool_]) -> memoryview:
        """The bytes of the lines that are not dropped, as they were in the file."""
        data = self.data[:-1] if self.completed else self.data
        if dropped.any():
            data = data[np.repeat(~dropped, np.diff(self.ends, prepend=0))[: len(data)]]
        return data.data


def find_shards(inputs: Sequence[Path]) -> list[Shard]:
    """The files of all inputs, in order; a folder stands for all files in it, sorted by name.

    As with `cp -r`, a file keeps its name, and a folder its name and all that is in it. Links to files count
    as files, links to folders are not followed. Raises NotFound, and InvalidArgument where two would have one
    name.
    """
    shards = [shard for path in inputs for shard in _shards_of(path)]
    for name, count in Counter(shard.name for shard in shards).items():
        if count > 1:
            raise InvalidArgument(f"{count} inputs would be written as {name}; give their folders instead")
    return shards


def read_lines(shard: Shard, source: Source, block_bytes: int, most_bytes: int) -> Iterator[Lines]:
    """All lines of a file's content, about a block at a time.

    Raises InvalidArgument where one exceeds `most_bytes`.
    """
    carried = np.zeros(0, np.uint8)
    while True:
        block = np.empty(2 * len(carried) + block_bytes, np.uint8)
        block[: len(carried)] = carried
        filled = len(carried) + fill(block[len(carried) : -1].data, source.readinto)
        last = filled < len(block) - 1
        completed = bool(last and filled and block[filled - 1] != _NEWLINE)
        if completed:
            block[filled] = _NEWLINE
            filled += 1
        ends = np.flatnonzero(block[:filled] == _NEWLINE) + 1
        end = int(ends[-1]) if len(ends) else 0
        if len(ends):
            yield Lines(block[:end], ends, completed)
        if last:
            return
        carried = block[end:filled]
        if len(carried) > most_bytes:
            raise InvalidArgument(
                f"{shard.path} has a line of over {most_bytes} bytes; give more memory, or is it no text?"
            )


def _shards_of(path: Path) -> Iterator[Shard]:
    if path.is_dir():
        top = path.resolve().name
        for file in sorted(each for each in path.rglob("*") if each.is_file()):
            yield _shard(file, Path(top, file.relative_to(path)).as_posix())
    elif path.is_file():
        yield _shard(path, path.name)
    else:
        raise NotFound(f"{path} is neither a file nor a folder")


def _shard(path: Path, name: str) -> Shard:
    return Shard(path, name, *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_size, info.st_mtime_ns
