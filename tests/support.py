"""What tests of the native codecs share: guarded memory and the three element types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.reference import numerics

Array = NDArray[Any]

FP32, FP16, BF16 = 0, 1, 2
DTYPES = (FP32, FP16, BF16)
"""The frame's dtype codes. fp16 and bf16 arrays are held as uint16 bit patterns."""

HEADER_BYTES = 96


def label(name: str, params: dict[str, Any]) -> str:
    """A readable test id."""
    return name + "".join(f"-{key}={value}" for key, value in params.items())


def store(values: numerics.F32, dtype: int) -> Array:
    """Round fp32 values to an element type, as conventions.md says."""
    if dtype == FP32:
        return np.array(values, dtype=np.float32)
    return numerics.to_fp16(values) if dtype == FP16 else numerics.to_bf16(values)


def widen(stored: Array, dtype: int) -> numerics.F32:
    """Return the elements as fp32."""
    if dtype == FP32:
        return stored
    return numerics.from_fp16(stored) if dtype == FP16 else numerics.from_bf16(stored)


def same_bits(a: Array, b: Array) -> bool:
    """Say whether two arrays are equal byte by byte."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


class Guarded:
    """A copy of an array in memory with guard bytes on both sides, no better aligned than its elements."""

    GUARD, PATTERN = 192, 0xA5

    def __init__(self, content: Array) -> None:
        raw = np.frombuffer(content.tobytes(), dtype=np.uint8)
        self.memory = np.full(2 * self.GUARD + 64 + raw.size, self.PATTERN, dtype=np.uint8)
        misalign = (content.itemsize - self.memory.ctypes.data) % 64
        self.start = self.GUARD + misalign
        self.bytes = self.memory[self.start : self.start + raw.size]
        self.bytes[:] = raw
        self.array = self.bytes.view(content.dtype)
        self.original = content

    @property
    def ptr(self) -> int:
        """The address of the first element."""
        return self.memory.ctypes.data + self.start

    def intact(self) -> bool:
        """Say whether the guard bytes are untouched."""
        outside = (self.memory[: self.start], self.memory[self.start + self.bytes.size :])
        return all((side == self.PATTERN).all() for side in outside)

    def unchanged(self) -> bool:
        """Say whether content and guard bytes are as they were."""
        return self.intact() and self.bytes.tobytes() == self.original.tobytes()


def junk(nbytes: int) -> Array:
    """Return bytes that no codec writes by chance."""
    return np.full(nbytes, 0x5A, dtype=np.uint8)
