"""safetensors files into a checkpoint and out of one, a part at a time.

The format: 8 bytes with the length of the header, a header of JSON, then the tensors one after the other
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from thinwire._durable import replacing
from thinwire._memory import fill
from thinwire.errors import InvalidArgument
from thinwire.store.checkpoint import tree
from thinwire.store.checkpoint.checkpointer import Checkpointer
from thinwire.store.checkpoint.layout import BLOCK_BYTES, Extents, Layout, Place, next_place
from thinwire.store.checkpoint.loading import Read, Stored, branch, shared_state
from thinwire.store.checkpoint.saving import Progress, describe
from thinwire.store.checkpoint.steps import KIND, LATEST
from thinwire.store.checkpoint.tensors import Bytes, Spec, dense, dtype_named, element_size
from thinwire.store.index import CHUNK, Chunks
from thinwire.store.refs import Ref
from thinwire.store.writer import Writer

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MOST_HEADER_BYTES = 100 << 20
_WINDOW_BYTES = 32 << 20
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"


class _Entry(NamedTuple):
    """One tensor of a file; `begin` and `end` count from the file's start."""

    name: str
    spec: Spec
    begin: int
    end: int


def import_safetensors(
    path: str | os.PathLike[str], saver: Checkpointer, step: int, *, progress: Progress | None = None
) -> Ref:
    """Save the tensors of a file as a step: a flat dict. Of the file no more than some blocks are in memory.

    Blocks that a checkpoint of the same weights has are not stored again. Raises InvalidArgument for a file
    that is none, or has a dtype that torch has not.
    """
    saver.wait()
    with (
        Path(path).open("rb", buffering=0) as file,
        saver.store.writer(saver.name, level=saver.level) as writer,
    ):
        entries, said = _read_header(file, Path(path))
        layout = _lay_out(entries)
        described = {"dict": [[entry.name, {"leaf": leaf}] for leaf, entry in enumerate(entries)]}
        metadata = describe(shared_state(described), layout, KIND, step) | {"safetensors": said}
        chunks = [
            *_add_small(writer, file, entries, layout),
            *_add_large(writer, file, entries, layout, progress),
        ]
        return writer.commit(metadata, np.concatenate([np.zeros(0, CHUNK), *chunks]))


def export_safetensors(
    path: str | os.PathLike[str],
    saver: Checkpointer,
    step: int | str = LATEST,
    *,
    of: str = "",
    progress: Progress | None = None,
) -> None:
    """Write the tensors of a step to a file, which shows only when it is whole and durable.

    `of` is the path of a part of the state, as "model". Names are keys joined by dots. Raises InvalidArgument
    for what is not a tensor, naming it, or has a dtype that the format has not.
    """
    stored = saver.open(step)
    entries = _entries_of(stored, _descend(branch(stored), of))
    with replacing(Path(path)) as file:
        file.write(_header([entry for entry, _ in entries], stored.said.get("safetensors")))
        total, done = sum(entry.spec.size for entry, _ in entries), 0
        for _, leaf in entries:
            for part in _parts(stored, leaf):
                file.write(part.data)
                done += len(part)
                if progress is not None:
                    progress(done, total)


def _read_header(file: BinaryIO, path: Path) -> tuple[list[_Entry], dict[str, str]]:
    """The tensors in the order of their bytes, and the file's own metadata."""
    file_bytes = os.fstat(file.fileno()).st_size
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        start = _LENGTH.size + length
        if length > min(_MOST_HEADER_BYTES, file_bytes):
            raise ValueError(f"its header has {length} bytes")
        header = json.loads(file.read(length))
        said = header.pop(_METADATA, {})
        entries = [_entry(name, entry, start) for name, entry in header.items()]
    except (struct.error, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"{path} is no safetensors file: {error}") from None
    entries.sort(key=lambda entry: entry.begin)
    at = start
    for entry in entries:
        if entry.begin != at or entry.end - entry.begin != entry.spec.size:
            raise InvalidArgument(f"{path}: the bytes of {entry.name} are not where they should be")
        at = entry.end
    if at != file_bytes:
        raise InvalidArgument(f"{path} has {file_bytes} bytes, its header says {at}; get it again")
    return entries, said


def _entry(name: str, said: Any, start: int) -> _Entry:
    dtype = _DTYPES.get(said["dtype"])
    if dtype is None:
        raise ValueError(f"{name} has dtype {said['dtype']}, which is not known")
    shape = tuple(int(size) for size in said["shape"])
    if any(size < 0 for size in shape):
        raise ValueError(f"{name} has the shape {shape}")
    begin, end = said["data_offsets"]
    return _Entry(name, Spec(dtype, shape, tuple(range(len(shape)))), start + begin, start + end)


def _lay_out(entries: list[_Entry]) -> Layout:
    sizes, places = [0], []
    for entry in entries:
        extent, offset = next_place(sizes, entry.spec.size)
        places.append(Place(extent, offset, entry.spec.size, entry.spec))
    return Layout(places, Extents(sizes), [])


def _add_small(writer: Writer, file: BinaryIO, entries: list[_Entry], layout: Layout) -> Iterator[Chunks]:
    memory = np.zeros(layout.extents.sizes[0], np.uint8)
    for entry, place in zip(entries, layout.places, strict=True):
        if not place.extent:
            _read(file, entry.begin, memory[place.offset : place.offset + place.size])
    yield _add(writer, memory, None)


def _add_large(
    writer: Writer, file: BinaryIO, entries: list[_Entry], layout: Layout, progress: Progress | None
) -> Iterator[Chunks]:
    total, done = sum(layout.extents.sizes[1:]), 0
    for entry, place in zip(entries, layout.places, strict=True):
        if not place.extent:
            continue
        for begin in range(entry.begin, entry.end, _WINDOW_BYTES):
            memory = np.empty(min(_WINDOW_BYTES, entry.end - begin), np.uint8)  # its own: it is stored later
            _read(file, begin, memory)
            yield _add(writer, memory, element_size(entry.spec))
            done += len(memory)
            if progress is not None:
                progress(done, total)


def _add(writer: Writer, memory: Bytes, width: int | None) -> Chunks:
    count = -(-len(memory) // BLOCK_BYTES)
    ends = np.minimum(np.arange(1, count + 1) * BLOCK_BYTES, len(memory))
    return writer.add(memory, ends, element_size=width)


def _read(file: BinaryIO, offset: int, memory: Bytes) -> None:
    file.seek(offset)
    if fill(memory.data, file.readinto) < len(memory):  # type: ignore[attr-defined]
        raise InvalidArgument("the file became shorter while it was read")


def _descend(described: tree.Json, path: str) -> tree.Json:
    for key in filter(None, path.split(".")):
        entries = {str(name): item for name, item in tree.entries_of(described).items()}
        if key not in entries:
            raise InvalidArgument(f"the checkpoint has no {path}")
        described = entries[key]
    return described


def _entries_of(stored: Stored, described: tree.Json) -> list[tuple[_Entry, int]]:
    """What to write, the largest elements first, so that all are aligned."""
    found = []
    for path, item in tree.ends(described):
        leaf = tree.leaf_of(item)
        spec = None if leaf is None else stored.places[leaf].spec
        if leaf is None or spec is None:
            raise InvalidArgument(f"{path} is no tensor; a safetensors file takes nothing else: pass of=")
        if spec.dtype not in _NAMES:
            raise InvalidArgument(f"{path} has dtype {spec.dtype}, which safetensors has not")
        found.append((path, spec, leaf))
    for path, count in Counter([_METADATA, *(path for path, _, _ in found)]).items():
        if count > 1:
            raise InvalidArgument(f"the name {path} would stand for two entries of the file; rename a key")
    found.sort(key=lambda item: (-_itemsize(item[1]), item[0]))
    made, at = [], 0
    for path, spec, leaf in found:
        made.append((_Entry(path, spec, at, at + spec.size), leaf))
        at += spec.size
    return made


def _itemsize(spec: Spec) -> int:
    return dtype_named(spec.dtype).itemsize


def _header(entries: list[_Entry], said: dict[str, str] | None) -> bytes:
    header: dict[str, Any] = {_METADATA: said} if said else {}
    for name, spec, begin, end in entries:
        header[name] = {"dtype": _NAMES[spec.dtype], "shape": spec.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH.size)
    return _LENGTH.pack(len(text)) + text


def _parts(stored: Stored, leaf: int) -> Iterator[Bytes]:
    """The elements of a tensor, row by row, some MiB at a time where they lie so."""
    place = stored.places[leaf]
    assert place.spec is not None
    if not place.extent or place.spec.order != tuple(range(len(place.spec.shape))):
        found = stored.read([], [leaf])[leaf]
        assert not isinstance(found, bytes)
        yield dense(found.contiguous()).numpy()
        return
    blocks = stored.extents.blocks(place.extent)
    for first in range(blocks.start, blocks.stop, _WINDOW_BYTES // BLOCK_BYTES):
        rows = slice(first, min(first + _WINDOW_BYTES // BLOCK_BYTES, blocks.stop))
        memory = np.empty(int(stored.extents.block_sizes[rows].sum()), np.uint8)
        stored.fetch([Read(place.extent, rows, memory)])
        yield memory
