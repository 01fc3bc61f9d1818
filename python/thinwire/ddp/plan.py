"""How a bucket is cut. Pure arithmetic: the same on every rank, and no torch.

A bucket is a row of parameters. It is cut into *pieces*, which go through the pipeline one after another.
Each piece is cut into one *share* a rank: its owner adds that share up. A share is a row of *segments*, each
a parameter or a part of one, which one codec encodes. It travels in one frame, so where a frame is limited,
what is too large for one becomes several shares of the same owner. A parameter is cut only
at multiples of `ALIGN` and of its codec's block from its start, so that blocks lie the same way wherever a
cut falls; a matrix that has a shared basis is cut between rows.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from thinwire import _core
from thinwire._core import Basis, CodecSpec, Layout

ALIGN = 1024
"""Cuts inside a parameter are at multiples of this and of the codec's block."""
SLOT_ALIGN = 64
"""Frames start at multiples of this in a buffer."""
_EXACT_BYTES, _END_BYTES = 4, 64
"""Of a value that travels as it is, and, at most, of what pads the end of a segment."""
MIN_SLOT = 512
"""Bytes reserved for a frame at least, so that an aborted one has room for its reason."""


@dataclass(frozen=True)
class Limits:
    """How large a piece may be, about: its compressed bytes, and its values; how large a frame at most."""

    piece_bytes: int
    piece_values: int
    frame_bytes: int | None = None
    """Of a share's values, were they to travel as they are: inside a host its sum may do so."""


C10D_LIMITS = Limits(1 << 20, 1 << 20)
"""A piece is one collective of c10d: large enough to be worth it. An owner's sum is held in fp32."""


def native_limits(world_size: int) -> Limits:
    """Return the limits of the native engine, where a share is a slice that fits in a core's cache."""
    # Beside 2^17 values there is no room for the ends of segments, nor for a cut that is a block too far.
    return Limits(
        piece_bytes=world_size << 19, piece_values=world_size * 31 << 12, frame_bytes=_core.MAX_PAYLOAD_BYTES
    )


@dataclass(frozen=True)
class BasisShape:
    """Of a matrix's shared basis: `rank` vectors of `columns` values."""

    rank: int
    columns: int

    @property
    def bytes_per_value(self) -> float:
        """What the coefficients add to a frame, about."""
        return self.rank / self.columns


@dataclass(frozen=True)
class Coding:
    """How a parameter travels: by a codec, and along a shared basis if it has one."""

    codec: CodecSpec
    basis: BasisShape | None = None

    @property
    def align(self) -> int:
        """What cuts inside the parameter are multiples of, in values."""
        if self.basis is not None:
            return self.basis.columns * math.ceil(ALIGN / self.basis.columns)
        return math.lcm(ALIGN, int(self.codec.params.get("block", 1)))

    def bytes_per_value(self, size: int) -> float:
        """Return what a value costs in a frame of `size` values, about."""
        coefficients = self.basis.bytes_per_value if self.basis is not None else 0.0
        return self.codec.resolve(size).payload_bytes(size) / max(size, 1) + coefficients

    def description(self) -> str:
        """Return what ranks compare."""
        basis = f", basis of {self.basis.rank} x {self.basis.columns}" if self.basis is not None else ""
        return f"{self.codec}{basis}"


@dataclass(frozen=True)
class Segment:
    """`count` values of the bucket's parameter number `parameter`, from its value `offset` on."""

    parameter: int
    offset: int
    count: int
    coding: Coding


@dataclass(frozen=True)
class Share:
    """The values `[start, start + count)` of a bucket, which rank `owner` adds up. It may be empty."""

    owner: int
    start: int
    segments: tuple[Segment, ...]

    @cached_property
    def count(self) -> int:
        """Values in the share."""
        return sum(segment.count for segment in self.segments)

    def layout(self, plan_id: int, bases: Mapping[int, Basis]) -> Layout:
        """Return the layout of the frame that carries this share; `bases` are by parameter."""
        return Layout(
            [
                (s.count, s.coding.codec, bases[s.parameter]) if s.coding.basis else (s.count, s.coding.codec)
                for s in self.segments
            ],
            plan_id,
        )


@dataclass(frozen=True)
class Piece:
    """Consecutive values of a bucket: one share a rank, or several where frames are limited; by rank."""

    shares: tuple[Share, ...]


@dataclass(frozen=True)
class _Span:
    """A stretch of one parameter, while cutting."""

    parameter: int
    start: int  # in the bucket
    offset: int  # in the parameter
    count: int

    def between(self, start: int, stop: int) -> _Span:
        """Return the part that lies in `[start, stop)` of the bucket."""
        first, last = max(self.start, start), min(self.start + self.count, stop)
        return _Span(self.parameter, first, self.offset + first - self.start, last - first)


def _clip(spans: Sequence[_Span], start: int, stop: int) -> list[_Span]:
    """Return the spans of `[start, stop)`, without empty ones."""
    return [part for part in (span.between(start, stop) for span in spans) if part.count > 0]


def _cut(
    spans: Sequence[_Span], costs: Sequence[float] | Mapping[int, float], aligns: Sequence[int], parts: int
) -> list[int]:
    """Return the `parts + 1` bounds that divide the spans into parts of about equal cost.

    `costs` (a value's) and `aligns` are by parameter. Bounds never decrease.
    """
    begin, end = spans[0].start, spans[-1].start + spans[-1].count
    edges = list(accumulate((span.count * costs[span.parameter] for span in spans), initial=0.0))
    bounds = [begin]
    for part in range(1, parts):
        target = edges[-1] * part / parts
        at = min(bisect_right(edges, target), len(spans)) - 1
        span = spans[at]
        align = aligns[span.parameter]
        inside = round((target - edges[at]) / costs[span.parameter] / align) * align
        bounds.append(max(bounds[-1], span.start + min(inside, span.count)))
    return [*bounds, end]


def cut_bucket(
    sizes: Sequence[int], codings: Sequence[Coding], world_size: int, limits: Limits = C10D_LIMITS
) -> tuple[Piece, ...]:
    """Cut a bucket into pieces and shares.

    Args:
        sizes: the number of values of each parameter, in the order of the bucket.
        codings: how each parameter travels.
        world_size: the number of ranks, each of which owns a share of every piece.
        limits: of a piece, and of a frame.

    Every value lies in exactly one segment; what the owners of a piece add up costs about the same number of
    compressed bytes.
    """
    rates = [coding.bytes_per_value(size) for size, coding in zip(sizes, codings, strict=True)]
    loads = [max(rate / limits.piece_bytes, 1 / limits.piece_values) for rate in rates]
    aligns = [coding.align for coding in codings]
    starts = list(accumulate(sizes, initial=0))
    spans = [_Span(i, starts[i], 0, size) for i, size in enumerate(sizes) if size]
    if not spans:
        return ()
    wanted = math.ceil(sum(size * load for size, load in zip(sizes, loads, strict=True)))
    pieces = []
    for first, last in pairwise(_cut(spans, loads, aligns, wanted)):
        inside = _clip(spans, first, last)
        if not inside:
            continue
        shares = []
        for owner, (start, stop) in enumerate(pairwise(_cut(inside, rates, aligns, world_size))):
            bounds = _frames(_clip(inside, start, stop), aligns, limits.frame_bytes) or [start, stop]
            shares += [Share(owner, a, _segments(inside, a, b, codings)) for a, b in pairwise(bounds)]
        pieces.append(Piece(tuple(shares)))
    return tuple(pieces)


def _frames(spans: Sequence[_Span], aligns: Sequence[int], most: int | None) -> list[int]:
    """Return the bounds of as many frames as a share takes, about equally large; none for an empty share."""
    if not spans or most is None:
        return []
    parts = math.ceil(_exact_bytes(spans) / most)
    costs = {span.parameter: _EXACT_BYTES + _END_BYTES / span.count for span in spans}
    while True:
        bounds = _cut(spans, costs, aligns, parts)
        if all(_exact_bytes(_clip(spans, start, stop)) <= most for start, stop in pairwise(bounds)):
            return list(dict.fromkeys(bounds))
        parts += 1  # cuts lie between blocks or rows, which are far smaller than a frame


def _exact_bytes(spans: Sequence[_Span]) -> int:
    return sum(_EXACT_BYTES * span.count + _END_BYTES for span in spans)


def _segments(
    spans: Sequence[_Span], start: int, stop: int, codings: Sequence[Coding]
) -> tuple[Segment, ...]:
    inside = _clip(spans, start, stop)
    return tuple(Segment(s.parameter, s.offset, s.count, codings[s.parameter]) for s in inside)


@dataclass(frozen=True)
class Plan:
    """A bucket's pieces, and what ranks compare to know that they cut alike.

    `description` holds plain values that `json` can write; `digest` is its XXH3-64, whose low 32 bits are the
    frames' `param`.
    """

    pieces: tuple[Piece, ...]
    description: dict[str, Any]

    @cached_property
    def digest(self) -> int:
        """Hash of the description."""
        return int(_core.xxh3_64(canonical_json(self.description)))

    @property
    def plan_id(self) -> int:
        """The `param` of this plan's frames."""
        return self.digest & 0xFFFFFFFF


def make_plan(
    sizes: Sequence[int],
    codings: Sequence[Coding],
    world_size: int,
    description: dict[str, Any],
    limits: Limits = C10D_LIMITS,
) -> Plan:
    """Return the plan of a bucket. What else must agree across ranks is in `description`."""
    cut = {"values": list(sizes), "codecs": [coding.description() for coding in codings], "align": ALIGN}
    whole = {"piece bytes": limits.piece_bytes, "piece values": limits.piece_values, "ranks": world_size}
    if limits.frame_bytes is not None:
        whole["frame bytes"] = limits.frame_bytes
    return Plan(cut_bucket(sizes, codings, world_size, limits), {**description, **cut, **whole})


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value, as bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def slot_bytes(frame_bytes: int) -> int:
    """Return the bytes to reserve for a frame of `frame_bytes`."""
    return -(-max(frame_bytes, MIN_SLOT) // SLOT_ALIGN) * SLOT_ALIGN
