"""The formats that records come in: what each file of a format says of where its records lie."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from thinwire.data.faults import Faults, corrupt
from thinwire.data.files import Source
from thinwire.data.layout import Element, FixedLayout, Layout, Place
from thinwire.data.lines import line_layout
from thinwire.data.shards import SUFFIX, read_index
from thinwire.errors import InvalidArgument

_SUFFIXES = {
    ".npy": "npy",
    SUFFIX: "shards",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "lines",
    ".text": "lines",
}
_NPY_HEAD = 64 << 10  # bytes; of version 1 no header is longer, and NumPy refuses longer ones of others


@dataclass(frozen=True)
class Request:
    """What the caller said of the files. `element`: of raw records; `threads`: to look for lines with."""

    element: Element | None
    kept_in: str | None
    threads: int
    faults: Faults


Opener = Callable[[Source, Request], Layout]


def choose_format(asked: str, name: str, element: Element | None) -> str:
    """The name of a format: as asked for, or with "auto" what the first file's name tells."""
    if asked != "auto":
        if asked not in OPENERS:
            raise InvalidArgument(f"format is {asked!r}; it must be auto, {', '.join(OPENERS)}")
        chosen = asked
    elif element is not None:
        chosen = "raw"
    else:
        chosen = _SUFFIXES.get(PurePosixPath(name).suffix.lower(), "")
        if not chosen:
            raise InvalidArgument(
                f"{name}: its name does not tell what records it has; pass format=, one of "
                f"{', '.join(OPENERS)}, or dtype= and shape= for raw ones"
            )
    if (chosen == "raw") != (element is not None):
        raise InvalidArgument("dtype and shape belong to raw records, and raw records need a dtype")
    return chosen


def make_element(dtype: Any, shape: tuple[int, ...] | int) -> Element | None:
    """The element that a caller describes; None without a dtype. Raises InvalidArgument for what is none."""
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    if dtype is None:
        if extents:
            raise InvalidArgument("a shape needs a dtype")
        return None
    try:
        element = Element(np.dtype(dtype), tuple(int(extent) for extent in extents))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"dtype {dtype!r} with shape {shape!r} is no record: {error}") from None
    if element.dtype.hasobject or any(extent < 0 for extent in extents) or not element.nbytes:
        raise InvalidArgument(f"a record cannot be {element}")
    return element


def _open_raw(source: Source, request: Request) -> Layout:
    element = request.element
    assert element is not None
    count, rest = divmod(source.size, element.nbytes)
    if rest:
        place = Place(source.name, source.size - rest, count)
        request.faults.add(corrupt(place, f"the file ends after {rest} of its {element.nbytes} bytes"))
    return FixedLayout(count, 0, element)


def _open_npy(source: Source, request: Request) -> Layout:
    head = io.BytesIO(source.read(0, min(_NPY_HEAD, source.size)))
    try:
        version = np.lib.format.read_magic(head)
        read_header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(head)
    except ValueError as error:
        raise corrupt(Place(source.name), f"it is no .npy file: {error}") from None
    if dtype.hasobject or fortran or not shape:
        raise InvalidArgument(
            f"{source.name} has no rows that lie one behind the other (dtype {dtype}, shape {shape}"
            f"{', Fortran order' if fortran else ''}); write it again from numpy.ascontiguousarray"
        )
    element, start = Element(dtype, tuple(shape[1:])), head.tell()
    expected = start + shape[0] * element.nbytes
    if source.size != expected:
        raise corrupt(
            Place(source.name),
            f"it has {source.size} bytes, and {expected} by its header: it is cut off or grew",
        )
    return FixedLayout(shape[0], start, element)


def _open_lines(source: Source, request: Request) -> Layout:
    return line_layout(source, blank=True, kept_in=request.kept_in, threads=request.threads)


def _open_jsonl(source: Source, request: Request) -> Layout:
    return line_layout(source, blank=False, kept_in=request.kept_in, threads=request.threads)


def _open_shard(source: Source, request: Request) -> Layout:
    return read_index(source).layout()


OPENERS: dict[str, Opener] = {
    "raw": _open_raw,
    "npy": _open_npy,
    "lines": _open_lines,
    "jsonl": _open_jsonl,
    "shards": _open_shard,
}
"""The formats by name."""


def parse_json(record: memoryview) -> Any:
    """A record of format "jsonl" as the object it stands for. Raises ValueError."""
    return json.loads(bytes(record))


DECODERS: dict[str, Callable[[memoryview], Any]] = {"jsonl": parse_json}
"""What is done with a record before `transform`, in formats whose records are more than bytes."""
