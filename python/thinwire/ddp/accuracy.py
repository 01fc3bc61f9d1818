"""`codec="auto-accuracy:1%"`: the smallest codec that promises to lose no more than that.

A promise is the greatest gap to plain DDP that `thinwire bench ddp --equal-steps` has measured of a codec
with its default policy, over models, ranks and optimizers, as the mean over seeds, rounded up
(`docs/accuracy.md`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinwire.errors import InvalidArgument

_PREFIX = "auto-accuracy"
_REQUEST = re.compile(rf"{_PREFIX}:(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Promise:
    """The training loss of `codec` is at most `gap_percent` above plain DDP's after as many steps."""

    codec: str
    gap_percent: float


PROMISES = (
    Promise("topk", 4.0),
    Promise("sign1", 1.5),
    Promise("ternary", 3.0),
    Promise("int2", 3.5),
    Promise("int4", 3.5),
    Promise("int8", 1.0),
    Promise("raw", 0.0),
)
"""From the fewest bytes to the most."""


def is_request(codec: str) -> bool:
    """Say whether this asks for an accuracy instead of naming a codec."""
    return codec.partition(":")[0] == _PREFIX


def codec_for(request: str) -> str:
    """Return the first codec of `PROMISES` for a request such as "auto-accuracy:1%".

    Raises InvalidArgument for another form.
    """
    match = _REQUEST.fullmatch(request)
    if match is None:
        raise InvalidArgument(
            f"codec is {request!r}; write the greatest gap in percent, as in '{_PREFIX}:1%'"
        )
    allowed = float(match[1])
    return next(promise.codec for promise in PROMISES if promise.gap_percent <= allowed)
