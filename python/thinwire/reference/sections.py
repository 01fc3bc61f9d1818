"""Sections: the pieces of a payload, each zero-filled to whole 16 bytes (`docs/wire/conventions.md`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFrame
from .numerics import U8

ALIGNMENT = 16
"""Every section starts at a multiple of this many bytes."""


def padded(nbytes: int) -> int:
    """Return the bytes that a section with `nbytes` of content takes."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def join(*sections: NDArray[Any]) -> bytes:
    """Return a payload of the given arrays, each a section. Their dtypes must be little-endian."""
    pieces = (np.ascontiguousarray(s).tobytes() for s in sections)
    return b"".join(piece.ljust(padded(len(piece)), b"\0") for piece in pieces)


def split(payload: bytes, *nbytes: int) -> list[U8]:
    """Return the content of a payload's sections as bytes; `nbytes` are their lengths without the fill.

    Raises CorruptFrame when the payload's length is not that of these sections.
    """
    expected = sum(map(padded, nbytes))
    if len(payload) != expected:
        raise CorruptFrame(f"payload of {len(payload)} bytes, expected {expected}")
    contents, start = [], 0
    for length in nbytes:
        contents.append(np.frombuffer(payload, dtype=np.uint8, count=length, offset=start))
        start += padded(length)
    return contents
