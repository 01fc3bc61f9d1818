"""topk: the greatest values alone, with their positions (`docs/wire/topk.md`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFrame, InvalidArgument
from . import sections
from .blocks import greatest_magnitude, is_live, scales_of, set_aside_nonfinite, times_inverse
from .numerics import (
    F32,
    INF_FP32,
    U8,
    U16,
    canonical,
    from_bf16,
    from_fp16,
    mag,
    rounding_error,
    sum16,
    to_fp16,
)

WIRE_ID = 8
ROW, GROUP = 256, 1024
"""Values that share one count, and one scale."""
ROW_ENTRIES = 255
"""The most entries of a row: its count is one byte."""
VALUE_BITS = {"sign": 1, "int8": 8, "fp16": 16}
"""Bits of one code, in the order of the kinds' numbers on the wire."""
SAMPLE_ALL = 65536
"""Up to this many values the threshold comes from all of them; beyond, from every m-th chunk."""
SAMPLE_CHUNK, MOST_SKIPPED = 64, 64

Indices = NDArray[np.int64]


def millionths(density: float) -> int:
    """Return the density in millionths. Raises InvalidArgument unless it is from 1 to 500000."""
    parts = density * 1e6 + 0.5
    if not 1 <= parts < 500_001:
        raise InvalidArgument(f"density must be from 0.000001 to 0.5, not {density}")
    return math.floor(parts)


def check_values(values: str) -> None:
    """Raise InvalidArgument unless `values` names a kind of codes."""
    if values not in VALUE_BITS:
        raise InvalidArgument(f"values must be one of {', '.join(VALUE_BITS)}, not {values!r}")


def wire_param(*, density: float = 0.03, values: str = "sign") -> int:
    """Return the frame's `param`."""
    check_values(values)
    return millionths(density) | list(VALUE_BITS).index(values) << 20


def unit(*, density: float = 0.03, values: str = "sign") -> int:
    """Return how many values turn non-finite together."""
    return GROUP


def aim(n: int, density: float) -> int:
    """Return k, the number of entries aimed at among `n` values."""
    return -(-millionths(density) * n // 10**6)


def cap(n: int, density: float) -> int:
    """Return the greatest number of entries that a payload for `n` values holds."""
    return min(n, -(-11 * millionths(density) * n // 10**7))


def section_bytes(n: int, density: float, values: str) -> tuple[int, int, int, int]:
    """Return the bytes of counts, scales, offsets and values, without the fill."""
    check_values(values)
    entries = cap(n, density)
    return -(-n // ROW), 2 * -(-n // GROUP), entries, -(-entries * VALUE_BITS[values] // 8)


def payload_bytes(n: int, *, density: float = 0.03, values: str = "sign") -> int:
    """Return the payload's bytes for `n` values."""
    return sum(map(sections.padded, section_bytes(n, density, values)))


def sampled_threshold(y: F32, density: float, step: int) -> int:
    """Return the threshold, as magnitude bits, that the encoder takes for `y` (n >= 1 values) at `step`."""
    magnitudes = mag(y)
    if y.size > SAMPLE_ALL:
        every = min(MOST_SKIPPED, y.size // SAMPLE_ALL)
        chunk = np.arange(y.size) // SAMPLE_CHUNK
        magnitudes = magnitudes[chunk % every == step % every]
    rank = max(1, -(-aim(y.size, density) * magnitudes.size // y.size))
    greatest = int(np.sort(magnitudes)[-rank])
    return min(max(1, greatest & ~0x1FF), INF_FP32)


def select(y: F32, threshold: int, most: int) -> Indices:
    """Return the indices of the entries: at or above the threshold, at most 255 a row and `most` in all."""
    wanted = mag(y) >= np.uint32(threshold)
    rows = np.pad(wanted, (0, -y.size % ROW)).reshape(-1, ROW)
    rows = rows & (np.cumsum(rows, axis=1) <= ROW_ENTRIES)
    return np.flatnonzero(rows)[:most]


def rank_within(bins: Indices) -> Indices:
    """Return each entry's rank among those of the same bin; `bins` ascends."""
    return np.arange(bins.size) - np.searchsorted(bins, bins)


def group_scales(y: F32, taken: Indices, values: str) -> U16:
    """Return the scales of all groups, over the entries `taken`."""
    padded = np.pad(y, (0, -y.size % GROUP)).reshape(-1, GROUP)
    finite, nonfinite = set_aside_nonfinite(padded)
    entries = np.zeros_like(finite)  # the entries of each group in order, then zeros, which no scale notices
    group = taken // GROUP
    entries[group, rank_within(group)] = finite.reshape(-1)[taken]
    if values == "sign":
        count = np.bincount(group, minlength=len(entries)).astype(np.float32)
        return scales_of(sum16(np.abs(entries)) / np.maximum(count, np.float32(1)), 1, nonfinite)
    return scales_of(greatest_magnitude(entries), 127 if values == "int8" else 1, nonfinite)


def to_codes(entries: F32, scales: U16, values: str) -> U8:
    """Return the bytes of the codes of entries, each with its group's scale."""
    if values == "sign":
        return np.packbits(np.signbit(entries) & is_live(scales), bitorder="little")
    scaled = times_inverse(entries[:, None], scales)[:, 0]
    codes = np.rint(scaled).astype(np.int8) if values == "int8" else to_fp16(scaled).astype("<u2")
    return codes.view(np.uint8)


def from_codes(codes: U8, scales: U16, values: str) -> F32:
    """Return the decoded entries; `scales` holds each one's group scale."""
    magnitude = from_bf16(scales)
    if values == "sign":
        negative = np.unpackbits(codes, count=scales.size, bitorder="little").astype(np.bool_)
        return np.where(negative, -magnitude, magnitude)
    factors = codes.view(np.int8).astype(np.float32) if values == "int8" else from_fp16(codes.view("<u2"))
    with np.errstate(invalid="ignore", over="ignore"):
        return canonical(factors * magnitude)


def scatter(n: int, taken: Indices, entries: F32, scales: U16) -> F32:
    """Return `n` values: the entries where they belong, NaN in groups with the NaN scale, +0 elsewhere."""
    out = np.zeros(n, dtype=np.float32)
    out[taken] = entries
    nonfinite = np.repeat(np.isnan(from_bf16(scales)), GROUP)[:n]
    return np.where(nonfinite, np.float32(np.nan), out)


def encode(
    y: F32,
    *,
    step: int = 0,
    key: int = 0,
    density: float = 0.03,
    values: str = "sign",
    threshold: int | None = None,
) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,).

    `threshold` is the least magnitude sent, as magnitude bits; None takes the one sampled at `step`. `key` is
    unused.
    """
    n = y.size
    if threshold is None:
        threshold = sampled_threshold(y, density, step) if n else 1
    most = cap(n, density)
    taken = select(y, threshold, most)
    scales = group_scales(y, taken, values)
    entry_scales = scales[taken // GROUP]
    codes = to_codes(y[taken], entry_scales, values)
    decoded = scatter(n, taken, from_codes(codes, entry_scales, values), scales)
    payload = sections.join(
        np.bincount(taken // ROW, minlength=-(-n // ROW)).astype(np.uint8),
        scales.astype("<u2"),
        np.pad((taken % ROW).astype(np.uint8), (0, most - taken.size)),
        np.pad(codes, (0, section_bytes(n, density, values)[-1] - codes.size)),
    )
    return payload, rounding_error(y, decoded)


def positions(counts: U8, offsets: U8, n: int) -> Indices:
    """Return the entries' indices. Raises CorruptFrame where counts or offsets describe none below `n`."""
    entries = int(counts.sum(dtype=np.int64))
    if entries > offsets.size:
        raise CorruptFrame(f"topk counts add up to {entries}, at most {offsets.size} are possible")
    row = np.repeat(np.arange(counts.size), counts)
    taken = row * ROW + offsets[:entries]
    if entries and (taken[-1] >= n or (np.diff(taken) <= 0).any()):
        raise CorruptFrame("topk offsets do not ascend within their rows")
    return taken


def decode(payload: bytes, n: int, *, density: float = 0.03, values: str = "sign") -> F32:
    """Return the `n` decoded values.

    Raises CorruptFrame for a payload of the wrong length, too many entries, or offsets that do not ascend.
    """
    counts, scale_bytes, offsets, codes = sections.split(payload, *section_bytes(n, density, values))
    taken = positions(counts, offsets, n)
    scales: U16 = scale_bytes.view("<u2")
    entry_scales = scales[taken // GROUP]
    codes = codes[: -(-taken.size * VALUE_BITS[values] // 8)]
    return scatter(n, taken, from_codes(codes, entry_scales, values), scales)
