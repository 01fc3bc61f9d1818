"""Writing shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from thinwire import _core
from thinwire._durable import CannotTakeName, sync, sync_file, take_name, temporary_beside
from thinwire._memory import byte_view
from thinwire._sizes import parse_size
from thinwire.data.layout import Element
from thinwire.data.shards import ENTRY, HEADER_BYTES, SUFFIX, Footer, pack_footer, pack_header, pack_metadata
from thinwire.errors import InvalidArgument

DEFAULT_SHARD_BYTES = "256MiB"


def write_shards(
    records: Iterable[Any],
    folder: str | os.PathLike[str],
    *,
    name: str = "data",
    shard_bytes: int | str = DEFAULT_SHARD_BYTES,
    metadata: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write records to `folder/name-00000.tws` and so on; the paths, at least one.

    A record is a NumPy array or scalar, or any buffer, or text, which is written as UTF-8. Where the first is
    an array, all must have its dtype and shape, and a reader gives them back as arrays; otherwise it gives
    bytes. A shard ends with the record that makes it `shard_bytes` long. `metadata` is kept in every shard,
    as JSON.

    All shards take their names at the end, when they are on the disk; after an exception nothing is left.
    Raises InvalidArgument for records that do not fit together, and where such shards are there already.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    taken = sorted(target.glob(f"{name}-*{SUFFIX}"))
    if taken:
        raise _exists(taken[0])
    shards = _Shards(target, parse_size(shard_bytes, "shard_bytes"), dict(metadata or {}))
    try:
        for record in records:
            shards.add(record)
        shards.finish()
        return _take_names(shards.written, target, name)
    finally:
        shards.discard()


def _take_names(written: list[Path], folder: Path, name: str) -> list[Path]:
    """Give all shards their names, or none. The first comes last: where it is, they all are."""
    paths = [folder / f"{name}-{number:05}{SUFFIX}" for number in range(len(written))]
    taken: list[Path] = []
    try:
        for temporary, path in reversed([*zip(written, paths, strict=True)]):
            _take_name(temporary, path)
            taken.append(path)
        sync(folder)
    except BaseException as error:
        for ours in taken:
            ours.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise _exists(path) from None
        raise
    return paths


def _take_name(temporary: Path, path: Path) -> None:
    try:
        take_name(temporary, path)
    except CannotTakeName:  # then with an empty file of that name in between
        path.open("xb").close()
        temporary.replace(path)


def _exists(path: Path) -> InvalidArgument:
    return InvalidArgument(f"{path} exists; take another folder or name, or remove it first")


class _Shards:
    """Shards under names that nobody sees, one after the other."""

    def __init__(self, folder: Path, size: int, metadata: dict[str, Any]) -> None:
        self.written: list[Path] = []
        self._folder, self._size, self._metadata = folder, size, metadata
        self._count = 0
        self._element: Element | None = None
        self._open: _Shard | None = None

    def add(self, record: Any) -> None:
        """Write one record."""
        if self._count == 0:
            self._element = _element_of(record)
        data = _bytes_of(record, self._element, f"record {self._count}")
        self._count += 1
        shard = self._current()
        shard.add(data)
        if shard.end >= self._size:
            self._close(shard)

    def finish(self) -> None:
        """Close the last shard. Without records there is one, which has none."""
        if self._open or not self.written:
            self._close(self._current())

    def discard(self) -> None:
        """Remove what is under those names."""
        if self._open:
            self._open.file.close()
        for path in self.written:
            path.unlink(missing_ok=True)

    def _current(self) -> _Shard:
        if self._open is None:
            self.written.append(temporary_beside(self._folder / SUFFIX))
            self._open = _Shard(self.written[-1])
        return self._open

    def _close(self, shard: _Shard) -> None:
        shard.finish(self._element, self._metadata)
        self._open = None


class _Shard:
    """A shard that is being written."""

    def __init__(self, path: Path) -> None:
        self.file: BinaryIO = path.open("xb")
        self.file.write(pack_header())
        self.end = HEADER_BYTES
        self._entries: list[tuple[int, int]] = []

    def add(self, data: memoryview) -> None:
        """Write one record."""
        self.file.write(data)
        self.end += len(data)
        self._entries.append((self.end, _core.xxh3_64(data)))

    def finish(self, element: Element | None, own: dict[str, Any]) -> None:
        """Write what comes behind the records, and bring all of it to the disk."""
        index = np.array(self._entries, ENTRY).tobytes()
        metadata = pack_metadata(element, own)
        sums = _core.xxh3_64(index), _core.xxh3_64(metadata)
        footer = Footer(len(self._entries), self.end, len(metadata), *sums)
        self.file.write(b"".join([index, metadata, pack_footer(footer)]))
        sync_file(self.file)
        self.file.close()


def _element_of(record: Any) -> Element | None:
    if not isinstance(record, (np.ndarray, np.generic)):
        return None
    if record.dtype.hasobject:
        raise InvalidArgument("the records hold Python objects; pass bytes or numbers")
    return Element(record.dtype, record.shape)


def _bytes_of(record: Any, element: Element | None, what: str) -> memoryview:
    if element is not None:
        if _element_of(record) != element:
            raise InvalidArgument(
                f"{what} is no array of {element}, as those before it; pass bytes where they differ"
            )
        return byte_view(np.ascontiguousarray(record), what)
    return byte_view(record.encode() if isinstance(record, str) else record, what)
