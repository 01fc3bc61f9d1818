"""fp8: absmax blocks of eight-bit floating-point numbers (`docs/wire/fp8.md`).

P. Micikevicius et al., "FP8 formats for deep learning" (2022); OCP 8-bit Floating Point Specification (2023).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgument
from . import sections
from .blocks import (
    block_count,
    block_param,
    coded_blocks,
    delivered,
    greatest_magnitude,
    scales_of,
    times_inverse,
    times_scale,
)
from .numerics import F32, U8, rounding_error
from .rounding import round_codes

WIRE_ID = 3
SIGN = 0x80
"""The sign's bit in a code."""


class Format(NamedTuple):
    """A format of eight bits: its number on the wire, mantissa bits, exponent bias, greatest finite value."""

    number: int
    mantissa: int
    bias: int
    greatest: int

    @property
    def least_exponent(self) -> int:
        """The exponent of the smallest normal number, and of the subnormal ones."""
        return 1 - self.bias


FORMATS = {"e4m3": Format(0, 3, 7, 448), "e5m2": Format(1, 2, 15, 57344)}


def format_of(name: str) -> Format:
    """Return the format of a name. Raises InvalidArgument for another one."""
    if name not in FORMATS:
        raise InvalidArgument(f"format must be one of {list(FORMATS)}, not {name!r}")
    return FORMATS[name]


def wire_param(*, block: int = 256, rounding: str = "nearest", format: str = "e4m3") -> int:
    """Return the frame's `param`."""
    return block_param(block, format_number=format_of(format).number)


def unit(*, block: int = 256, rounding: str = "nearest", format: str = "e4m3") -> int:
    """Return how many values turn non-finite together."""
    return block


def payload_bytes(n: int, *, block: int = 256, rounding: str = "nearest", format: str = "e4m3") -> int:
    """Return the payload's bytes for `n` values."""
    count = block_count(n, block)
    return sections.padded(2 * count) + sections.padded(block * count)


def to_codes(v: F32, form: Format, rounding: str, key: int) -> U8:
    """Round values of at most the format's greatest magnitude to codes."""
    _, above = np.frexp(v)  # |v| is 2^(above - 1) or more, and less than 2^above, or 0
    exponent = np.maximum(np.where(v == 0, form.least_exponent, above - 1), form.least_exponent)
    steps = np.ldexp(np.abs(v), form.mantissa - exponent)
    most = np.ldexp(np.float32(form.greatest), form.mantissa - exponent)
    significand = round_codes(steps, most, rounding, key).astype(np.int32)
    # where rounding reaches the next power of two, the sum carries into the exponent, as it should
    magnitude = ((exponent - form.least_exponent) << form.mantissa) + significand
    codes: U8 = (magnitude | np.where(np.signbit(v), SIGN, 0)).astype(np.uint8)
    return codes


def from_codes(codes: U8, form: Format) -> F32:
    """Return the numbers that codes stand for, exactly."""
    magnitude = codes.astype(np.int32) & ~SIGN
    exponent = magnitude >> form.mantissa
    significand = (magnitude & ((1 << form.mantissa) - 1)) + np.where(exponent > 0, 1 << form.mantissa, 0)
    shift = np.maximum(exponent, 1) - form.bias - form.mantissa
    value = np.ldexp(significand.astype(np.float32), shift)
    signed: F32 = np.where(codes & SIGN, -value, value)
    return signed


def encode(
    y: F32,
    *,
    step: int = 0,
    key: int = 0,
    block: int = 256,
    rounding: str = "nearest",
    format: str = "e4m3",
) -> tuple[bytes, F32]:
    """Return (payload, residual) of fp32 values `y` (n,). `key` is for stochastic rounding, `step` unused."""
    form = format_of(format)
    values, nonfinite = coded_blocks(y, block, rotate=False)
    scales = scales_of(greatest_magnitude(values), form.greatest, nonfinite)
    codes = to_codes(times_inverse(values, scales), form, rounding, key)
    payload = sections.join(scales.astype("<u2"), codes)
    return payload, rounding_error(y, decode(payload, y.size, block=block, format=format))


def decode(
    payload: bytes, n: int, *, block: int = 256, rounding: str = "nearest", format: str = "e4m3"
) -> F32:
    """Return the `n` decoded values. Raises CorruptFrame for a payload of the wrong length."""
    count = block_count(n, block)
    scales, codes = sections.split(payload, 2 * count, block * count)
    numbers = from_codes(codes.reshape(count, block), format_of(format))
    return delivered(times_scale(numbers, scales.view("<u2")), scales.view("<u2"), n, rotate=False)
