"""The test vectors of chunks: inputs by formula, and where they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire.reference import cuts
from vectors.formula import mix

ABOUT = (
    "Where data is cut into chunks, docs/wire/chunking.md, written by tests/vectors/make.py. The data of a "
    "case is n bytes by the formula of its kind; ends are those of its chunks, in bytes from the start."
)
FORMULA = "h[i] = mix(((i + 1) * 0x9e3779b1 + seed) mod 2^32), mix as in docs/wire/conventions.md"


class Kind(NamedTuple):
    """A formula as text and as code."""

    text: str
    make: Callable[[NDArray[np.uint32]], NDArray[Any]]


KINDS = {
    "random": Kind("h[i] >> 24", lambda h: h >> 24),
    "zeros": Kind("0", lambda h: h * 0),
    "letters": Kind("97 + (h[i] >> 31)", lambda h: 97 + (h >> 31)),
    "periodic": Kind("h[i % 64] >> 24", lambda h: np.resize(h[:64], h.shape) >> 24),
    "sparse": Kind("1 if h[i] < 2^25, else 0", lambda h: h < 2**25),
}

# name, min, average, max
SIZES = [
    ("native", 64, 256, 1024), ("native", 250, 1000, 4000), ("native", 700, 700, 700),
    ("native", 4096, 16384, 65536),
    ("fastcdc2020", 64, 256, 1024), ("fastcdc2020", 101, 1001, 1031), ("fastcdc2020", 333, 700, 1500),
    ("fixed", 1000, 1000, 1000), ("aligned", 4096, 4096, 4096),
]  # fmt: skip


def data(kind: str, n: int, seed: int) -> bytes:
    """Return `n` bytes of one of the `KINDS`."""
    i = np.arange(n, dtype=np.uint32)
    h = mix((i + np.uint32(1)) * np.uint32(0x9E3779B1) + np.uint32(seed))
    return KINDS[kind].make(h).astype(np.uint8).tobytes()


def cases() -> list[dict[str, Any]]:
    """Return every case with its ends: lengths around the sizes of a chunk, and some chunks of each kind."""
    found: list[dict[str, Any]] = []
    for name, least, average, greatest in SIZES:
        edges = [n + step for n in sorted({least, average, greatest}) for step in (-1, 0, 1)]
        around = [("random", n) for n in [0, 1, *edges]]
        for kind, n in [*around, *((kind, 12 * average + 7) for kind in KINDS)]:
            seed = len(found)
            ends = cuts.ends(data(kind, n, seed), name, least, average, greatest)
            sizes = {"min": least, "average": average, "max": greatest}
            found.append({"profile": name, **sizes, "kind": kind, "n": n, "seed": seed, "ends": ends})
    return found


def vectors() -> dict[str, Any]:
    """Return the content of cuts.json."""
    kinds = {name: kind.text for name, kind in KINDS.items()}
    return {"about": ABOUT, "formula": FORMULA, "kinds": kinds, "cases": cases()}
