"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re

from thinwire.errors import InvalidArgument

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_FACTORS = {unit[0].lower(): 1024**power for power, unit in enumerate(_UNITS)}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)


def parse_size(text: str | int, what: str) -> int:
    """Bytes from "4GiB", "512M" (all units are powers of 1024) or a number. Raises InvalidArgument."""
    match = _TEXT.fullmatch(str(text).strip())
    if match is None:
        raise InvalidArgument(f"{what} is {text!r}; write a number of bytes, or 512MiB or 4GiB")
    factor: int = _FACTORS[(match[2] or "b").lower()]
    return round(float(match[1]) * factor)


def format_size(count: float) -> str:
    """`1.5 GiB`: four digits, in the largest unit that leaves a number of 1 or more."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} {_UNITS[-1]}"
