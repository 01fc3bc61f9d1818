"""Blocks, their scales and their codes, shared by all codecs that have them (`docs/wire/conventions.md`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument
from .numerics import F32, NAN_BF16, U8, U16, Mask, bf16_up, canonical, from_bf16, from_bits, mag, sum16
from .rotation import rotate_back, rotated
from .rounding import round_codes

SMALLEST_BASE = np.float32(2.0**-100)
"""A block whose scale base is below this is coded as zeros."""
LARGEST_BASE = np.float32(2.0**127)
"""A block whose scale base is this or more is coded as non-finite: code * scale could overflow."""
SMALLEST_BLOCK, LARGEST_BLOCK = 32, 4096


def block_sizes(smallest: int) -> list[int]:
    """Return the blocks a codec may have: its smallest times a power of two, up to `LARGEST_BLOCK`."""
    return [smallest << k for k in range(LARGEST_BLOCK.bit_length()) if smallest << k <= LARGEST_BLOCK]


def block_param(block: int, *, format_number: int = 0, rotate: bool = False) -> int:
    """Return the frame's `param` of a block codec."""
    return block | format_number << 16 | rotate << 17


def block_count(n: int, block: int, smallest: int = SMALLEST_BLOCK) -> int:
    """Return the number of blocks of `n` values. Raises InvalidArgument for a `block` that is not allowed."""
    if block not in block_sizes(smallest):
        raise InvalidArgument(f"block must be one of {block_sizes(smallest)}, not {block}")
    return -(-n // block)


def to_blocks(y: F32, block: int, smallest: int = SMALLEST_BLOCK) -> F32:
    """Return the values as an array (blocks, block), the last block padded with +0."""
    count = block_count(y.size, block, smallest)
    return np.pad(np.asarray(y, dtype=np.float32), (0, count * block - y.size)).reshape(count, block)


def real_values(values: F32, n: int) -> F32:
    """Return how many values of each block (blocks, block) are real."""
    blocks, block = values.shape
    real: F32 = np.minimum(n - np.arange(blocks) * block, block).astype(np.float32)
    return real


def greatest_magnitude(values: F32) -> F32:
    """Return the greatest magnitude of each row."""
    return from_bits(mag(values).max(axis=1, initial=0))


def mean_magnitude(values: F32, n: int) -> F32:
    """Return the mean of `|y|` over the real values of each block (blocks, block)."""
    mean: F32 = sum16(np.abs(values)) / real_values(values, n)
    return mean


def set_aside_nonfinite(values: F32) -> tuple[F32, Mask]:
    """Return the rows with those that hold a NaN or an infinity zeroed, and which rows these are."""
    nonfinite: Mask = np.logical_not(np.isfinite(values).all(axis=1))
    return np.where(nonfinite[:, None], np.float32(0), values), nonfinite


def coded_blocks(y: F32, block: int, smallest: int = SMALLEST_BLOCK, *, rotate: bool) -> tuple[F32, Mask]:
    """Return what is coded of the values (blocks, block), and which blocks are not finite and were zeroed."""
    values = to_blocks(y, block, smallest)
    return set_aside_nonfinite(rotated(values) if rotate else values)


def scales_of(base: F32, divisor: int, nonfinite: Mask) -> U16:
    """Return the bf16 scales: `base / divisor` rounded up, 0 for a tiny base, NaN for a huge one."""
    scales = np.where(base < SMALLEST_BASE, np.uint16(0), bf16_up(base / np.float32(divisor)))
    return np.where(nonfinite | (base >= LARGEST_BASE), np.uint16(NAN_BF16), scales)


def is_live(scales: U16) -> Mask:
    """Say which blocks carry codes: those whose scale is neither 0 nor NaN."""
    live: Mask = (scales != 0) & (scales != NAN_BF16)
    return live


def times_inverse(values: F32, scales: U16) -> F32:
    """Return `values * (1 / scale)` with one scale a row, and +0 in the rows without codes."""
    live = is_live(scales)
    with np.errstate(under="ignore"):
        inverse = np.float32(1) / np.where(live, from_bf16(scales), np.float32(1))
        scaled: F32 = np.where(live[:, None], values, np.float32(0)) * inverse[:, None]
    return scaled


def quantise(
    y: F32, block: int, greatest: int, rounding: str, key: int, *, rotate: bool = False
) -> tuple[U16, NDArray[np.int8]]:
    """Return the scales (blocks,) and the integer codes (blocks, block) of an absmax codec."""
    values, nonfinite = coded_blocks(y, block, rotate=rotate)
    scales = scales_of(greatest_magnitude(values), greatest, nonfinite)
    codes = round_codes(times_inverse(values, scales), greatest, rounding, key)
    return scales, codes.astype(np.int8)


def dequantise(scales: U16, codes: NDArray[np.int8], n: int, *, rotate: bool = False) -> F32:
    """Return the first `n` values of `code * scale`."""
    return delivered(times_scale(codes.astype(np.float32), scales), scales, n, rotate=rotate)


def times_scale(factors: F32, scales: U16) -> F32:
    """Return the factors (blocks, block) times the scale of their block."""
    with np.errstate(over="ignore", invalid="ignore"):
        product: F32 = factors * from_bf16(scales)[:, None]
    return product


def delivered(decoded: F32, scales: U16, n: int, *, rotate: bool) -> F32:
    """Return the first `n` values that the decoded blocks (blocks, block) stand for."""
    blocks = rotate_back(decoded, is_live(scales)) if rotate else decoded
    return canonical(blocks).reshape(-1)[:n]


def _digit_weights(radix: int) -> U8:
    """Return the weights of the digits of a byte (digits, 1): as many as fit."""
    weights = [radix**k for k in range(8) if radix ** (k + 1) <= 256]
    return np.array(weights, dtype=np.uint8)[:, None]


def pack_digits(digits: U8, radix: int) -> U8:
    """Return digits (blocks, block) as bytes (blocks, block / d), d digits each, as the conventions say."""
    weights = _digit_weights(radix)
    blocks, block = digits.shape
    parts = digits.reshape(blocks, len(weights), block // len(weights))
    packed: U8 = (parts * weights).sum(axis=1, dtype=np.uint8)
    return packed


def unpack_digits(packed: U8, radix: int) -> U8:
    """Undo `pack_digits`."""
    weights = _digit_weights(radix)
    digits: U8 = packed[:, None, :] // weights % np.uint8(radix)
    return digits.reshape(len(packed), packed.shape[1] * len(weights))
