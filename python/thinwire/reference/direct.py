"""The direct all-reduce over ranks in memory: what every rank of a real one must end with, bit by bit.

A bucket is cut into parts. Each part has an owner; every other rank encodes its share and sends it there. The
owner starts from its own unquantised share, adds the others' decoded shares in ascending order of rank, and
encodes the sum once. Every rank decodes those bytes. What a rank's encoding lost stays in its residual, the
owner's loss on the sum in the owner's, so that over all ranks result + sum of new residuals = sum of weighted
gradients + sum of old residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import basis, frame
from .codecs import CODECS
from .numerics import F32, Mask, accumulate, encoder_input

TO_OWNER, FROM_OWNER = 1, 2
"""The phases in a frame's header."""


@dataclass(frozen=True)
class Segment:
    """Consecutive values of a bucket that one codec encodes: a parameter, or a piece of one."""

    count: int
    codec: str
    params: dict[str, Any] = field(default_factory=dict)
    vectors: F32 | None = field(default=None, compare=False)
    """The shared basis (rank, columns) of whole rows of a matrix."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of the segment's payload."""
        coefficients = 0 if self.vectors is None else basis.coefficient_bytes(self.count, self.vectors)
        return coefficients + int(CODECS[self.codec].payload_bytes(self.count, **self.params))

    def encode(self, y: F32, step: int, key: int) -> tuple[bytes, F32]:
        """Return the payload of the segment's values, and their rounding errors."""
        if self.vectors is not None:
            return basis.encode(y, self.vectors, self.codec, step=step, key=key, **self.params)
        payload, error = CODECS[self.codec].encode(y, step=step, key=key, **self.params)
        return payload, error

    def decode(self, payload: bytes, out: F32 | None = None) -> F32:
        """Return the values of a payload, added to `out` if there is one."""
        if self.vectors is not None:
            return basis.decode(payload, self.count, self.vectors, self.codec, out=out, **self.params)
        values: F32 = CODECS[self.codec].decode(payload, self.count, **self.params)
        return values if out is None else accumulate(out, values)


@dataclass(frozen=True)
class Part:
    """Consecutive segments that travel in one frame. `slice` is the frame's field.

    With a `plan_id` the frame is a plan's; without, it holds the only segment under that codec's own id.
    """

    owner: int
    segments: tuple[Segment, ...]
    slice: int = 0
    plan_id: int | None = None

    @property
    def count(self) -> int:
        """Values of the part."""
        return sum(segment.count for segment in self.segments)


@dataclass(frozen=True)
class Result:
    """What an all-reduce leaves behind.

    `values` (n,) is the sum that every rank decodes, `residuals` one array (n,) a rank, `to_owner` the frames
    by (index of the part, sender), `from_owner` the frame of each part.
    """

    values: F32
    residuals: list[F32]
    to_owner: dict[tuple[int, int], bytes]
    from_owner: list[bytes]


def encode_part(part: Part, y: F32, header: frame.Header, key: int = 0) -> tuple[bytes, F32]:
    """Return the frame of the values `y` of a part, and their rounding errors `y - decoded`."""
    if part.plan_id is None:
        (only,) = part.segments
        codec_id, param = CODECS[only.codec].WIRE_ID, CODECS[only.codec].wire_param(**only.params)
    else:
        codec_id, param = frame.PLAN, part.plan_id
    payload, errors, flags, start = b"", [], 0, 0
    for segment in part.segments:
        encoded, error = segment.encode(y[start : start + segment.count], header.step, key)
        if not np.isfinite(segment.decode(encoded)).all():
            flags = frame.NONFINITE
        payload += encoded
        errors.append(error)
        start += segment.count
    header = replace(header, codec=codec_id, param=param, flags=flags, count=part.count)
    return frame.pack(header, payload), np.concatenate(errors)


def decode_part(part: Part, encoded: bytes, out: F32 | None = None) -> F32:
    """Return the values of a part's frame, added to `out` if there is one.

    Raises as `frame.parse` and the codecs do.
    """
    _, payload = frame.parse(encoded)
    values, start, first = [], 0, 0
    for segment in part.segments:
        piece = payload[start : start + segment.payload_bytes]
        values.append(segment.decode(piece, None if out is None else out[first : first + segment.count]))
        start += segment.payload_bytes
        first += segment.count
    return np.concatenate(values)


def all_reduce(
    gradients: Sequence[F32],
    residuals: Sequence[F32],
    parts: Sequence[Part],
    *,
    weights: Sequence[float] | None = None,
    held: Sequence[Mask] | None = None,
    keys: Sequence[int] | None = None,
    header: frame.Header | None = None,
) -> Result:
    """Reduce one bucket of `n` values over `len(gradients)` ranks.

    Args:
        gradients, residuals: one fp32 array (n,) a rank.
        parts: cover the bucket in order.
        weights: one a rank; default 1 / ranks each.
        held: one bool array (n,) a rank, constant over each segment: there the residual is kept out of the
            sum (a parameter without a gradient). Default: nowhere.
        keys: one stochastic key a rank; default 0.
        header: gives group, step and bucket of all frames.
    """
    ranks = range(len(gradients))
    weights = weights or [1.0 / len(ranks)] * len(ranks)
    held = held or [np.zeros(gradients[0].size, dtype=np.bool_)] * len(ranks)
    keys = keys or [0] * len(ranks)
    header = header or frame.Header()
    shares = [
        np.where(held[r], encoder_input(g, w), encoder_input(g, w, residuals[r]))
        for r, (g, w) in enumerate(zip(gradients, weights, strict=True))
    ]
    errors = [np.zeros_like(share) for share in shares]
    values = np.zeros_like(shares[0])
    to_owner, from_owner, start = {}, [], 0
    for index, part in enumerate(parts):
        own = slice(start, start + part.count)
        start += part.count
        tag = replace(header, slice=part.slice)
        total = shares[part.owner][own]
        for sender in ranks:
            if sender == part.owner:
                continue
            to = replace(tag, sender=sender, phase=TO_OWNER, weight=weights[sender])
            encoded, errors[sender][own] = encode_part(part, shares[sender][own], to, keys[sender])
            to_owner[index, sender] = encoded
            total = decode_part(part, encoded, total)
        back = replace(tag, sender=part.owner, phase=FROM_OWNER, weight=weights[part.owner])
        encoded, errors[part.owner][own] = encode_part(part, total, back, keys[part.owner])
        from_owner.append(encoded)
        values[own] = decode_part(part, encoded)
    kept = [np.where(held[r], residuals[r] + errors[r], errors[r]) for r in ranks]
    return Result(values, kept, to_owner, from_owner)
