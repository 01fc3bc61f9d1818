"""The inputs of the test vectors, by formulas that any language can repeat bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]

HASH_TEXT = (
    "h[i] = mix(((i + 1) * 0x9e3779b1 + seed) mod 2^32), mix as in docs/wire/conventions.md; "
    "u[i] = ((h[i] >> 8) - 2^23) * 2^-23; e = 2^exponent; all in fp32"
)


class Terms(NamedTuple):
    """What the formulas are made of: indices, hashed bits, uniform numbers in [-1, 1), a power of two."""

    i: U32
    h: U32
    u: F32
    e: np.float32


def mix(x: U32) -> U32:
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def terms(n: int, exponent: int, seed: int) -> Terms:
    i = np.arange(n, dtype=np.uint32)
    h = mix((i + np.uint32(1)) * np.uint32(0x9E3779B1) + np.uint32(seed))
    u = ((h >> np.uint32(8)).astype(np.int32) - 2**23).astype(np.float32) * np.float32(2.0**-23)
    return Terms(i, h, u, np.float32(2.0**exponent))


def with_bits(b: NDArray[np.integer]) -> F32:
    return b.astype(np.uint32).view(np.float32)


def half_steps(t: Terms, greatest: int) -> F32:
    steps = (t.h % np.uint32(4 * greatest + 1)).astype(np.int32) - 2 * greatest
    values = np.where(t.i % 32 == 0, np.float32(greatest), steps.astype(np.float32) * np.float32(0.5))
    return values * t.e


def nonfinite(t: Terms) -> F32:
    x = t.u * t.e
    x = np.where(t.i % 1500 == 7, np.float32(np.nan), x)
    return np.where(t.i % 1500 == 900, np.float32(-np.inf), x)


class Kind(NamedTuple):
    """A formula as text and as code."""

    text: str
    make: Callable[[Terms], F32]


KINDS = {
    "uniform": Kind("u[i] * e", lambda t: t.u * t.e),
    "cubes": Kind("((u[i] * u[i]) * u[i]) * e", lambda t: t.u * t.u * t.u * t.e),
    "positive": Kind("|u[i]| * e", lambda t: np.abs(t.u) * t.e),
    "negative": Kind("-|u[i]| * e", lambda t: -np.abs(t.u) * t.e),
    "zeros": Kind("+0", lambda t: np.zeros_like(t.u)),
    "negative_zeros": Kind("-0", lambda t: -np.zeros_like(t.u)),
    "ties7": Kind("e * 7 if i % 32 == 0, else e * ((h[i] mod 29) - 14) / 2", lambda t: half_steps(t, 7)),
    "ties127": Kind(
        "e * 127 if i % 32 == 0, else e * ((h[i] mod 509) - 254) / 2", lambda t: half_steps(t, 127)
    ),
    "sparse": Kind(
        "u[i] * e if i % 37 == 5, else +0", lambda t: np.where(t.i % 37 == 5, t.u * t.e, np.float32(0))
    ),
    "denormal": Kind("the fp32 with the bits h[i] & 0x807fffff", lambda t: with_bits(t.h & 0x807FFFFF)),
    "huge": Kind(
        "the fp32 with the bits (0x7f7fffff - (h[i] & 0xfffff)) | (h[i] & 0x80000000)",
        lambda t: with_bits((0x7F7FFFFF - (t.h & 0xFFFFF)) | (t.h & 0x80000000)),
    ),
    "finite": Kind(
        "the fp32 with the bits h[i], bit 29 cleared: any sign, exponents below 192",
        lambda t: with_bits(t.h & 0xDFFFFFFF),
    ),
    "anything": Kind("the fp32 with the bits h[i]", lambda t: with_bits(t.h)),
    "nonfinite": Kind("NaN if i % 1500 == 7, -infinity if i % 1500 == 900, else u[i] * e", nonfinite),
}


def values(kind: str, n: int, exponent: int = 0, seed: int = 0) -> F32:
    """Return `n` fp32 values of one of the `KINDS`."""
    with np.errstate(over="ignore", under="ignore"):
        return KINDS[kind].make(terms(n, exponent, seed))
