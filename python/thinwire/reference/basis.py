"""The shared basis of a matrix: `docs/basis.md` in NumPy.

A matrix of gradients `(rows, columns)` is sent in two parts: its coefficients along a few orthonormal vectors
`(rank, columns)` that all ranks hold alike, in int8, and what these leave over, through any codec. Every rank
learns the vectors of the next step from the same decoded gradient, so that none of them is ever sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import int8
from .codecs import CODECS, resolve
from .numerics import (
    F32,
    INF_FP32,
    U16,
    accumulate,
    canonical,
    dot,
    from_bf16,
    from_bits,
    mag,
    multiply_add,
    to_bf16,
)
from .rounding import uniform
from .sections import padded

GROUP_ROWS = 64
"""Rows whose coefficients are coded together, those of one vector in one block of int8."""
KEPT = np.float32(0.75)
"""Part of a vector that its successor keeps; the rest comes from what was learnt."""
SIGN1_GAIN = 0.625
"""By which sign1 multiplies its magnitudes beside a basis. The mean would leave the least error behind, but
what is left is mostly noise there, and an optimizer that divides by the size of what it sees (Adam) is better
served by less of it."""
VANISHED = np.float32(2.0**-20)
"""A vector whose squared length is below this cannot be made orthonormal."""


def project(vectors: F32, matrix: F32) -> F32:
    """Return the coefficients `(rank, rows)` of a matrix `(rows, columns)`."""
    return np.stack([dot(matrix, vector) for vector in vectors])


def expand(matrix: F32, vectors: F32, coefficients: F32) -> F32:
    """Return a matrix with what coefficients `(rank, rows)` stand for added to it, vector after vector."""
    for coefficient, vector in zip(coefficients, vectors, strict=True):
        matrix = multiply_add(coefficient[:, None], vector, matrix)
    return canonical(matrix)


def encode(y: F32, vectors: F32, codec: str, step: int = 0, key: int = 0, **params: Any) -> tuple[bytes, F32]:
    """Return the payload of `y`, whole rows of a matrix, and what it loses.

    The payload is that of the coefficients, group of rows after group, followed by the codec's for the rest.
    Where the codec resolves to raw there are no coefficients.
    """
    name, params = resolve(codec, y.size, params)
    if name == "raw":
        return _encode(name, y, step, key, params)
    heads, rests = [], []
    for group in _groups(y, vectors):
        projected = np.pad(project(vectors, group), ((0, 0), (0, GROUP_ROWS - len(group))))
        payload, _ = int8.encode(projected.reshape(-1), block=GROUP_ROWS)
        heads.append(payload)
        rests.append(expand(group, vectors, -_coefficients(payload, vectors, len(group))))
    payload, lost = _encode(name, np.concatenate(rests).reshape(-1), step, key, params)
    return b"".join(heads) + payload, lost


def decode(payload: bytes, n: int, vectors: F32, codec: str, out: F32 | None = None, **params: Any) -> F32:
    """Return the `n` values of a payload; with `out`, `(out + the rest) + the part along the basis`."""
    name, params = resolve(codec, n, params)
    raw = name == "raw"
    head = 0 if raw else coefficient_bytes(n, vectors)
    values: F32 = CODECS[name].decode(payload[head:], n, **params)
    if out is not None:
        values = accumulate(out, values)
    if raw:
        return values
    groups = _groups(values, vectors)
    size = head // len(groups)
    heads = [payload[i * size : (i + 1) * size] for i in range(len(groups))]
    added = [
        expand(group, vectors, _coefficients(head, vectors, len(group)))
        for group, head in zip(groups, heads, strict=True)
    ]
    whole: F32 = np.concatenate(added).reshape(-1)
    return whole


def coefficient_bytes(n: int, vectors: F32) -> int:
    """Return the bytes that the coefficients of `n` values take before the codec's payload."""
    rank, columns = vectors.shape
    groups: int = -(-(n // columns) // GROUP_ROWS)
    return groups * (padded(2 * rank) + padded(GROUP_ROWS * rank))


def _encode(name: str, y: F32, step: int, key: int, params: dict[str, Any]) -> tuple[bytes, F32]:
    gain = {"gain": SIGN1_GAIN} if name == "sign1" else {}
    payload, lost = CODECS[name].encode(y, step=step, key=key, **gain, **params)
    return payload, lost


def _groups(values: F32, vectors: F32) -> list[F32]:
    matrix = values.reshape(-1, vectors.shape[1])
    return [matrix[first : first + GROUP_ROWS] for first in range(0, len(matrix), GROUP_ROWS)]


def _coefficients(payload: bytes, vectors: F32, rows: int) -> F32:
    """Return a group's coefficients `(rank, rows)`."""
    decoded: F32 = int8.decode(payload, len(vectors) * GROUP_ROWS, block=GROUP_ROWS)
    return decoded.reshape(len(vectors), GROUP_ROWS)[:, :rows]


def learn(vectors: F32, matrix: F32, moments: F32) -> F32:
    """Return `moments + vectors @ matrix.T @ matrix`, `(rank, columns)`, added up row after row."""
    products = project(vectors, matrix)
    for i, row in enumerate(matrix):
        moments = multiply_add(products[:, i, None], row, moments)
    return moments


def spread(vectors: F32, matrix: F32, share: float, kept: U16) -> tuple[F32, U16]:
    """Return a matrix that hands over a share of what lies beside the basis, and what is kept for later.

    `kept` are bf16 bits in the matrix's shape: what earlier steps have left. A matrix of zeros hands over
    nothing.
    """
    if not matrix.any():
        return matrix.copy(), kept.copy()
    out, later = matrix.copy(), kept.copy()
    for first in range(0, len(matrix), GROUP_ROWS):
        rows = slice(first, first + GROUP_ROWS)
        coefficients = project(vectors, matrix[rows])
        t = expand(matrix[rows], vectors, -coefficients) + from_bf16(kept[rows])
        later[rows] = to_bf16(
            np.where(np.isfinite(t), t * (np.float32(1) - np.float32(share)), np.float32(0))
        )
        out[rows] = expand(t - from_bf16(later[rows]), vectors, coefficients)
    return out, later


def turn(vectors: F32, moments: F32) -> F32:
    """Return the next step's vectors: a quarter of each is what was learnt.

    They stay as they are where the moments are all zero, or not all finite.
    """
    kept: F32 = vectors.copy()
    turned = kept.copy()
    magnitudes = mag(moments).max(axis=1)
    if (magnitudes >= INF_FP32).any() or not (magnitudes >> 23).any():
        return kept
    with np.errstate(over="ignore", under="ignore"):
        for k in np.flatnonzero(magnitudes >> 23):
            learnt = moments[k] * to_about_one(int(magnitudes[k]))
            weight = (np.float32(1) - KEPT) / np.sqrt(dot(learnt, learnt))
            turned[k] = vectors[k] * KEPT + learnt * weight
    found = orthonormalise(turned)
    return kept if found is None else found


def begin(columns: int, rank: int, key: int) -> F32:
    """Return the first step's vectors: random ones, the same on all ranks for the same key.

    Where chance made them depend on each other, the first unit vectors.
    """
    found = orthonormalise((uniform(rank * columns, key) - np.float32(0.5)).reshape(rank, columns))
    return np.eye(rank, columns, dtype=np.float32) if found is None else found


def orthonormalise(vectors: F32) -> F32 | None:
    """Make vectors orthonormal one after another (modified Gram-Schmidt). None if one of them vanishes."""
    done: F32 = np.zeros_like(vectors)
    with np.errstate(over="ignore", under="ignore"):
        for k, v in enumerate(vectors):
            found = beside(done[:k], v)
            if found is None:
                return None
            done[k] = found
    return done


def beside(done: F32, v: F32) -> F32 | None:
    """Return what `v` has beside the vectors `done`, with a length of one. None if it vanishes."""
    for w in done:
        v = multiply_add(w, -dot(v, w), v)
    square = dot(v, v)
    return v * (np.float32(1) / np.sqrt(square)) if square >= VANISHED else None


def to_about_one(magnitude: int) -> F32:
    """Return the power of two that brings a value with these magnitude bits between 1 and 4."""
    return from_bits(np.array((254 - min(magnitude >> 23, 253)) << 23, np.uint32))
