"""How a bucket is cut. Pure arithmetic: the same on every rank, and no torch.

A bucket is a row of parameters. It is cut into *pieces*, which go through the pipeline one after another.
Each piece is cut into one *share* a rank: its owner adds that share up. A share is a row of *segments*, each
a parameter or a part of one, which one codec encodes; a share travels in one frame. A parameter is cut only
at multiples of `ALIGN` values from its start, so that a codec's blocks lie the same way wherever a cut falls.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from thinwire import _core
from thinwire._core import CodecSpec, Layout

ALIGN = 1024
"""Cuts inside a parameter are at multiples of this, or of the codec's block where that is larger."""
SLOT_ALIGN = 64
"""Frames start at multiples of this in a buffer."""
MIN_SLOT = 512
"""Bytes reserved for a frame at least, so that an aborted one has room for its reason."""


@dataclass(frozen=True)
class Limits:
    """How large a piece may be, about: its compressed bytes, and its values."""

    piece_bytes: int
    piece_values: int


C10D_LIMITS = Limits(1 << 20, 1 << 20)
"""A piece is one collective of c10d: large enough to be worth it. An owner's sum is held in fp32."""


def native_limits(world_size: int) -> Limits:
    """Return the limits of the native engine, where a share is a slice that fits in a core's cache."""
    return Limits(piece_bytes=world_size << 19, piece_values=world_size << 17)


@dataclass(frozen=True)
class Segment:
    """`count` values of the bucket's parameter number `parameter`, from its value `offset` on."""

    parameter: int
    offset: int
    count: int
    codec: CodecSpec


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

    def layout(self, plan_id: int) -> Layout:
        """Return the layout of the frame that carries this share."""
        return Layout([(segment.count, segment.codec) for segment in self.segments], plan_id)


@dataclass(frozen=True)
class Piece:
    """Consecutive values of a bucket: one share a rank, in the order of ranks."""

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


def _cut(spans: Sequence[_Span], costs: Sequence[float], aligns: Sequence[int], parts: int) -> list[int]:
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
    sizes: Sequence[int], codecs: Sequence[CodecSpec], world_size: int, limits: Limits = C10D_LIMITS
) -> tuple[Piece, ...]:
    """Cut a bucket into pieces and shares.

    Args:
        sizes: the number of values of each parameter, in the order of the bucket.
        codecs: the codec of each parameter.
        world_size: the number of ranks, each of which owns a share of every piece.
        limits: of a piece.

    Every value lies in exactly one segment; the shares of a piece cost about the same number of compressed
    bytes.
    """
    rates = [_bytes_per_value(size, codec) for size, codec in zip(sizes, codecs, strict=True)]
    loads = [max(rate / limits.piece_bytes, 1 / limits.piece_values) for rate in rates]
    aligns = [max(ALIGN, int(codec.params.get("block", 0))) for codec in codecs]
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
        bounds = pairwise(_cut(inside, rates, aligns, world_size))
        shares = (
            Share(r, start, _segments(inside, start, stop, codecs)) for r, (start, stop) in enumerate(bounds)
        )
        pieces.append(Piece(tuple(shares)))
    return tuple(pieces)


def _bytes_per_value(size: int, codec: CodecSpec) -> float:
    return codec.resolve(size).payload_bytes(size) / max(size, 1)


def _segments(
    spans: Sequence[_Span], start: int, stop: int, codecs: Sequence[CodecSpec]
) -> tuple[Segment, ...]:
    inside = _clip(spans, start, stop)
    return tuple(Segment(s.parameter, s.offset, s.count, codecs[s.parameter]) for s in inside)


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
    codecs: Sequence[CodecSpec],
    world_size: int,
    description: dict[str, Any],
    limits: Limits = C10D_LIMITS,
) -> Plan:
    """Return the plan of a bucket. What else must agree across ranks is in `description`."""
    cut = {"values": list(sizes), "codecs": [str(codec) for codec in codecs], "align": ALIGN}
    whole = {"piece bytes": limits.piece_bytes, "piece values": limits.piece_values, "ranks": world_size}
    return Plan(cut_bucket(sizes, codecs, world_size, limits), {**description, **cut, **whole})


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value, as bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def slot_bytes(frame_bytes: int) -> int:
    """Return the bytes to reserve for a frame of `frame_bytes`."""
    return -(-max(frame_bytes, MIN_SLOT) // SLOT_ALIGN) * SLOT_ALIGN
