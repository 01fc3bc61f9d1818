"""The parameters that codecs are tested with. A new codec is covered once the reference knows it."""

from __future__ import annotations

import inspect
from typing import Any

from thinwire.reference import CODECS
from thinwire.reference.blocks import SMALLEST_BLOCK, block_sizes

Parameters = dict[str, Any]

CHOICES: dict[str, list[Parameters]] = {
    "rounding": [{"rounding": "stochastic"}],
    "density": [{"density": 0.5}],
    "values": [
        {"density": 0.1, "values": "int8"},
        {"density": 0.01, "values": "fp16"},
        {"density": 0.000001, "values": "fp16"},
    ],
    "format": [{"format": "e5m2"}, {"format": "e5m2", "rounding": "stochastic"}],
    "rotate": [
        {"rotate": True},
        {"rotate": True, "block": 256},
        {"rotate": True, "block": 4096},
        {"rotate": True, "rounding": "stochastic"},
    ],
}
"""What is tried, beside the defaults, of a codec with the parameter of that name; blocks are its own."""


def blocks(name: str) -> list[Parameters]:
    """Return the smallest and the largest block of a codec, and one between."""
    sizes = block_sizes(smallest_block(name))
    return [{"block": size} for size in (sizes[0], sizes[2], sizes[-1])]


def smallest_block(name: str) -> int:
    """Return the smallest block of a block codec."""
    return getattr(CODECS[name], "SMALLEST_BLOCK", SMALLEST_BLOCK)


def defaults(name: str) -> Parameters:
    """Return a codec's parameters with their defaults."""
    signature = inspect.signature(CODECS[name].payload_bytes)
    return {p.name: p.default for p in signature.parameters.values() if p.name != "n"}


def choices(name: str) -> list[Parameters]:
    """Return what a codec is tried with, its defaults (`{}`) first."""
    known = defaults(name)
    choices_of = CHOICES | ({"block": blocks(name)} if "block" in known else {})
    tried = [chosen for parameter in known for chosen in choices_of[parameter]]
    return [{}] + [chosen for chosen in tried if chosen.keys() <= known.keys() and known | chosen != known]


PARAMETERS = {name: choices(name) for name in CODECS}
