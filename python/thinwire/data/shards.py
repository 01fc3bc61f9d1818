"""Shards: files of records with an index and checksums, as docs/data/shards.md says."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thinwire import _core
from thinwire.data.faults import corrupt
from thinwire.data.files import LocalFile, Source
from thinwire.data.layout import Element, FixedLayout, Indices, Layout, Place, VariedLayout, Words
from thinwire.errors import CorruptRecord, FormatVersion, InvalidArgument

SUFFIX = ".tws"
VERSION = 1
HEADER_MAGIC, FOOTER_MAGIC = b"TWSH", b"TWSF"
ENTRY = np.dtype([("end", "<u8"), ("sum", "<u8")])
"""A record in the index: the byte behind it, and XXH3-64 of its bytes."""

_HEADER = struct.Struct("<4sHH48xQ")  # magic, version, flags, XXH3-64 of what is before it
_FOOTER = struct.Struct("<4sHHQQQQQ8xQ")
_CHECKED = 56  # bytes of both that their checksum is of
HEADER_BYTES, FOOTER_BYTES = _HEADER.size, _FOOTER.size


class Footer(NamedTuple):
    """The last 64 bytes of a shard, without magic, version, flags and its own checksum."""

    records: int
    index_offset: int
    metadata_bytes: int
    index_sum: int
    metadata_sum: int


def pack_header() -> bytes:
    """The first 64 bytes of a shard."""
    return _with_checksum(_HEADER.pack(HEADER_MAGIC, VERSION, 0, 0))


def pack_footer(footer: Footer) -> bytes:
    """The last 64 bytes of a shard."""
    return _with_checksum(_FOOTER.pack(FOOTER_MAGIC, VERSION, 0, *footer, 0))


def _with_checksum(block: bytes) -> bytes:
    return block[:_CHECKED] + struct.pack("<Q", _core.xxh3_64(block[:_CHECKED]))


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What a shard says of its records.

    `offsets`, `sizes`: in bytes, int64 of shape (records,). `sums`: XXH3-64 of each, uint64. `element`: dtype
    and shape of every record, or None where they are bytes of any length. `metadata`: the writer's own.
    """

    offsets: Indices
    sizes: Indices
    sums: Words
    element: Element | None
    metadata: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ShardIndex:
        """The index of a local shard.

        Raises OSError where it cannot be read, FormatVersion for what a later release wrote, CorruptRecord
        for what is no shard, or damaged.
        """
        return read_index(LocalFile(Path(path)))

    def __len__(self) -> int:
        return len(self.offsets)

    def layout(self) -> Layout:
        """The same, as a reader takes it."""
        if self.element is None:
            return VariedLayout(self.offsets, self.sizes, self.sums)
        return FixedLayout(len(self), HEADER_BYTES, self.element, self.sums)


def read_index(source: Source) -> ShardIndex:
    """The index of a shard, every length checked against the file's before it is believed."""
    bad = _Complaints(source.name)
    if source.size < HEADER_BYTES + FOOTER_BYTES:
        raise bad.damage(f"it has {source.size} bytes, too few for a shard: it was cut off, or is none")
    bad.check_block(source.read(0, HEADER_BYTES), HEADER_MAGIC, "header")
    block = source.read(source.size - FOOTER_BYTES, FOOTER_BYTES)
    bad.check_block(block, FOOTER_MAGIC, "footer")
    footer = Footer(*_FOOTER.unpack(block)[3:8])
    index_bytes = footer.records * ENTRY.itemsize
    if footer.index_offset + index_bytes + footer.metadata_bytes + FOOTER_BYTES != source.size:
        raise bad.damage("its footer belongs to a file of another size: it was cut off or lengthened")
    index = source.read(footer.index_offset, index_bytes)
    metadata = source.read(footer.index_offset + index_bytes, footer.metadata_bytes)
    if (_core.xxh3_64(index), _core.xxh3_64(metadata)) != (footer.index_sum, footer.metadata_sum):
        raise bad.damage("its index is damaged")
    entries = np.frombuffer(index, ENTRY)
    ends = np.concatenate([np.array([HEADER_BYTES], np.uint64), entries["end"]]).astype(np.int64)
    sizes = np.diff(ends)
    if (sizes < 0).any() or ends[-1] != footer.index_offset:
        raise bad.damage("its index does not fit its records")
    element, own = _parse_metadata(metadata, bad)
    if element and (sizes != element.nbytes).any():
        raise bad.damage(f"not all of its records are {element}")
    return ShardIndex(ends[:-1], sizes, entries["sum"].astype(np.uint64), element, own)


class _Complaints:
    """The errors about one shard."""

    def __init__(self, name: str) -> None:
        self._name = name

    def damage(self, reason: str) -> CorruptRecord:
        return corrupt(Place(self._name), reason)

    def check_block(self, block: bytes, magic: bytes, what: str) -> None:
        """Raise unless this is a header or footer that this release reads."""
        found, version, flags = struct.unpack_from("<4sHH", block)
        if found != magic:
            raise self.damage(f"it has no shard's {what}: it was cut off, or is no shard")
        if _with_checksum(block) != block:
            raise self.damage(f"its {what} is damaged")
        if version != VERSION or flags:
            raise FormatVersion(
                f"{self._name} is a shard of version {version} with flags {flags}; this release reads "
                f"version {VERSION} without flags; upgrade thinwire"
            )


def pack_metadata(element: Element | None, own: dict[str, Any]) -> bytes:
    """The metadata of a shard. Raises InvalidArgument for what JSON cannot hold."""
    facts: dict[str, Any] = {"metadata": own}
    if element is not None:
        facts["dtype"] = np.lib.format.dtype_to_descr(element.dtype)
        facts["shape"] = element.shape
    try:
        return json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"metadata must be what JSON can hold: {error}") from None


def _parse_metadata(data: bytes, bad: _Complaints) -> tuple[Element | None, dict[str, Any]]:
    try:
        facts = json.loads(data)
        own = facts["metadata"]
        if "dtype" not in facts:
            return None, own
        dtype = np.lib.format.descr_to_dtype(_with_tuples(facts["dtype"]))
        shape = tuple(int(extent) for extent in facts["shape"])
    except (ValueError, TypeError, LookupError) as error:
        raise bad.damage(f"its metadata cannot be understood: {error!r}") from None
    if dtype.hasobject or any(extent < 0 for extent in shape):
        raise bad.damage(f"its records cannot be {dtype} of shape {shape}")
    return Element(dtype, shape), own


def _with_tuples(descr: Any) -> Any:
    """The fields of a structured dtype as NumPy has them; JSON made lists of their tuples."""
    if isinstance(descr, str):
        return descr
    return [(field[0], _with_tuples(field[1]), *map(tuple, field[2:])) for field in descr]
