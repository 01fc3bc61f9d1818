"""Where data is cut into chunks (`docs/wire/chunking.md`)."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from .hashing import xxh3_64

U16 = NDArray[np.uint16]

WINDOW = 64
"""Bytes before a position that decide whether it is a candidate of the profile `native`."""
FACTORS = (0x1593, 0xBB45, 0xEA11, 0x2005, 0x49FD)

GEAR = [int.from_bytes(hashlib.md5(bytes([byte]) * 64).digest()[:8], "big") for byte in range(256)]
GEAR_MASKS = {
    7: 0x0000000018035100,
    8: 0x0000001800035300,
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
    20: 0x0000D91747537000,
    21: 0x0000D91767537000,
    22: 0x0000D93767537000,
    23: 0x0000D93777537000,
}


def polynomial(data: bytes) -> U16:
    """Return the polynomial at every position from `WINDOW` on, mod 2^16: (len(data) - WINDOW + 1,)."""
    byte = np.frombuffer(data, np.uint8).astype(np.uint16)
    found: U16 = byte[:-1] | byte[1:] << np.uint16(8)
    for power, factor in enumerate(FACTORS, start=1):
        found = found[2**power :] + np.uint16(factor) * found[: -(2**power)]
    return found


def candidates(data: bytes, average: int) -> dict[int, bool]:
    """Return the positions at which a chunk may end, each with whether it is strict."""
    if len(data) < WINDOW:
        return {}
    bits = min(12, int(math.log2(average)) - 2)
    chosen = polynomial(data) >> np.uint16(16 - bits) == 2 ** (bits - 1) - 1
    found = {}
    for position in (np.flatnonzero(chosen) + WINDOW).tolist():
        scaled = (xxh3_64(data[position - WINDOW : position]) >> 32) * average
        if scaled < 2 ** (34 + bits):
            found[position] = scaled < 2 ** (30 + bits)
    return found


def native(data: bytes, least: int, average: int, greatest: int) -> list[int]:
    """Return the ends of chunks of the profile `native`."""
    ends, start = [], 0
    for position, strict in candidates(data, average).items():
        while position - start >= greatest:
            start += greatest
            ends.append(start)
        if position - start >= (least if strict else average):
            start = position
            ends.append(start)
    return [*ends, *fixed(data, greatest, start)]


def fixed(data: bytes, block: int, start: int = 0) -> list[int]:
    """Return the ends of blocks of one size, from a start on."""
    return [*range(start + block, len(data), block), len(data)] if start < len(data) else []


def fastcdc2020(data: bytes, least: int, average: int, greatest: int) -> list[int]:
    """Return the ends of chunks of the profile `fastcdc2020`."""
    ends: list[int] = []
    start = 0
    while start < len(data):
        start += fastcdc_length(data[start : start + greatest], least, average)
        ends.append(start)
    return ends


def fastcdc_length(data: bytes, least: int, average: int) -> int:
    """Return the length of the first chunk. `data` holds no more than the greatest chunk."""
    bits = math.floor(math.log2(average) + 0.5)
    strict, loose = GEAR_MASKS[bits + 1], GEAR_MASKS[bits - 1]
    gear = 0
    for position in range(least // 2 * 2, len(data) // 2 * 2):
        gear = (2 * gear + GEAR[data[position]]) % 2**64
        if gear & (strict if position < average // 2 * 2 else loose) == 0:
            return position
    return len(data)


def ends(data: bytes, name: str, least: int, average: int, greatest: int) -> list[int]:
    """Return the ends of chunks of a profile."""
    if name in ("fixed", "aligned"):
        return fixed(data, average)
    return {"native": native, "fastcdc2020": fastcdc2020}[name](data, least, average, greatest)
