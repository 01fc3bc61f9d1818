"""The collectives over ranks in memory: what every rank of a real one must end with, bit by bit.

In an all-reduce a rank starts from its own values `y = x * w + residual` and adds the decoded partial sums of
its children, in the schedule's order. A rank that is not the owner encodes this sum once and sends it up; the
owner encodes it once for all, itself included. What an encoding lost stays in the residual of the rank that
made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from .codecs import CODECS, resolve
from .numerics import (
    F32,
    NAN_FP32,
    accumulate,
    canonical,
    encoder_input,
    from_bf16,
    from_bits,
    from_fp16,
    to_bf16,
    to_fp16,
)
from .schedules import (
    ALIGN,
    SLICE_VALUES_CODED,
    SLICE_VALUES_RAW,
    Slice,
    chunk_bounds,
    cut_slices,
    doubling_stages,
    even_bounds,
    tree_of,
)

Combine = Callable[[F32, F32], F32]
KeyOf = Callable[[int, int], int]


def greater(a: F32, b: F32) -> F32:
    """Return the greater of each two values: NaN wins over all, and +0 over -0."""
    ahead = (a > b) | ((a == b) & np.logical_not(np.signbit(a)))
    return np.where(np.isnan(a) | np.isnan(b), from_bits(np.uint32(NAN_FP32)), np.where(ahead, a, b))


def no_key(index: int, rank: int) -> int:
    """Return the stochastic key 0."""
    return 0


@dataclass(frozen=True)
class Wire:
    """How values travel: a codec, the element type of the arrays, step and stochastic keys.

    `dtype` is fp32, fp16 or bf16; arrays of the last two are held here as the fp32 values they stand for.
    Without a codec they travel in their own 16 bits, partial sums too. `key_of(slice index, rank)` gives the
    key of the one encoding of a slice that a rank makes.
    """

    codec: str = "raw"
    params: dict[str, Any] = field(default_factory=dict)
    dtype: str = "fp32"
    step: int = 0
    key_of: KeyOf = no_key

    @property
    def plain(self) -> bool:
        """Whether values travel uncompressed."""
        return self.codec == "raw"

    @property
    def sent_as(self) -> str:
        """The codec of a frame that is long enough for it."""
        return self.dtype if self.plain and self.dtype != "fp32" else self.codec

    @property
    def slice_values(self) -> int:
        """The most values of a slice."""
        return SLICE_VALUES_RAW if self.sent_as == "raw" else SLICE_VALUES_CODED

    @property
    def align(self) -> int:
        """What the bounds of chunks are multiples of."""
        return math.lcm(ALIGN, CODECS[self.sent_as].unit(**self.params))

    def carry(self, y: F32, index: int, rank: int, exact: bool = False) -> tuple[F32, F32]:
        """Return what arrives of `y`, a rank's values of one slice, and the rounding errors left behind."""
        codec, params = ("raw", {}) if exact and not self.plain else (self.sent_as, self.params)
        name, params = resolve(codec, y.size, params)
        payload, error = CODECS[name].encode(y, step=self.step, key=self.key_of(index, rank), **params)
        return CODECS[name].decode(payload, y.size, **params), error

    def stored(self, v: F32) -> F32:
        """Return `v` as an array of the element type holds it."""
        if self.dtype == "fp32":
            return v
        return from_fp16(to_fp16(v)) if self.dtype == "fp16" else from_bf16(to_bf16(v))


FP32 = Wire()
"""Uncompressed fp32."""


@dataclass(frozen=True)
class Reduced:
    """What an all-reduce or a reduce_scatter leaves behind.

    `values` (n,) is the result: every rank's after an all-reduce, each owner's chunk after a reduce_scatter.
    `residuals` are the new ones, one array (n,) a rank.
    """

    values: F32
    residuals: list[F32]


def shares(
    inputs: Sequence[F32], op: str, residuals: Sequence[F32] | None, weights: Sequence[float] | None
) -> list[F32]:
    """Return what each rank puts in: `x * w + residual`."""
    if op not in ("sum", "mean", "max"):
        raise InvalidArgument(f"op must be sum, mean or max, not {op!r}")
    if op == "max" and (weights is not None or residuals is not None):
        raise InvalidArgument("max takes neither weights nor residuals")
    scales = weights or [1.0 / len(inputs) if op == "mean" else 1.0] * len(inputs)
    return [
        encoder_input(x, scales[rank], None if residuals is None else residuals[rank])
        for rank, x in enumerate(inputs)
    ]


def combine_of(op: str, wire: Wire) -> Combine:
    """Return how two partial results become one."""
    if op == "max" and not wire.plain:
        raise InvalidArgument(f"max takes codec raw only, not {wire.codec}")
    return greater if op == "max" else accumulate


def climb(
    y: Sequence[F32],
    algorithm: str,
    slices: Sequence[Slice],
    combine: Combine,
    wire: Wire,
    sites: Sequence[int] | None,
) -> tuple[list[F32], list[F32]]:
    """Return the owner's sum of each slice, and the rounding errors of what the others sent, (n,) a rank."""
    errors = [np.zeros_like(share) for share in y]

    def sum_of(index: int, piece: Slice) -> F32:
        tree, own = tree_of(algorithm, len(y), piece, index, sites), piece.range

        def partial_sum(rank: int) -> F32:
            total = y[rank][own]
            for child in tree.up_from.get(rank, []):
                sent, exact = partial_sum(child), child in tree.exact
                arrived, errors[child][own] = wire.carry(sent, index, child, exact)
                total = combine(total, arrived)
            return total

        return partial_sum(tree.owner)

    return [sum_of(index, piece) for index, piece in enumerate(slices)], errors


def all_reduce(
    inputs: Sequence[F32],
    wire: Wire = FP32,
    algorithm: str = "direct",
    op: str = "sum",
    *,
    residuals: Sequence[F32] | None = None,
    weights: Sequence[float] | None = None,
    sites: Sequence[int] | None = None,
    slices: Sequence[Slice] | None = None,
) -> Reduced:
    """Reduce one array (n,) a rank to its sum, mean or maximum on every rank.

    Args:
        algorithm: `doubling` or a name in `schedules.TREES`.
        residuals: one fp32 array (n,) a rank; default: nothing is added, not even +0.
        weights: one a rank; default 1 / ranks for a mean and 1 for a sum.
        sites: one number a rank; default: each rank at its own.
        slices: default: what `chunk_bounds` and `cut_slices` make of n.
    """
    y, combine = shares(inputs, op, residuals, weights), combine_of(op, wire)
    if algorithm == "doubling":
        return _double(y, combine, wire)
    slices = slices or cut_slices(chunk_bounds(y[0].size, len(y), wire.align), wire.slice_values)
    sums, errors = climb(y, algorithm, slices, combine, wire, sites)
    values = np.zeros_like(y[0])
    for index, (piece, total) in enumerate(zip(slices, sums, strict=True)):
        own = piece.range
        values[own], errors[piece.owner][own] = wire.carry(total, index, piece.owner)
    return Reduced(wire.stored(values), errors)


def _double(y: list[F32], combine: Combine, wire: Wire) -> Reduced:
    """Return what recursive doubling gives. It travels as fp32; the element type is for the result alone."""
    if not wire.plain:
        raise InvalidArgument(f"doubling takes codec raw only, not {wire.codec}")
    held = [canonical(share) for share in y]
    for stage in doubling_stages(len(y)):
        for lower, higher in stage:
            held[lower] = held[higher] = combine(held[lower], held[higher])
    return Reduced(wire.stored(held[0]), [np.zeros_like(share) for share in y])


def reduce_scatter(
    inputs: Sequence[F32],
    wire: Wire = FP32,
    algorithm: str = "direct",
    op: str = "sum",
    *,
    residuals: Sequence[F32] | None = None,
    weights: Sequence[float] | None = None,
    sites: Sequence[int] | None = None,
) -> Reduced:
    """Reduce as `all_reduce` does, but leave each even chunk with its owner, who does not encode it."""
    y, combine = shares(inputs, op, residuals, weights), combine_of(op, wire)
    slices = cut_slices(even_bounds(y[0].size, len(y)), wire.slice_values)
    sums, errors = climb(y, algorithm, slices, combine, wire, sites)
    values = np.zeros_like(y[0])
    for piece, total in zip(slices, sums, strict=True):
        values[piece.range] = canonical(total)
    return Reduced(wire.stored(values), errors)


def _carried(x: F32, bounds: Sequence[int], wire: Wire, rank: int | None = None) -> F32:
    """Return what arrives of chunks that are sent slice by slice, by `rank` or each by its owner."""
    arrived = np.zeros(x.size, dtype=np.float32)
    for index, piece in enumerate(cut_slices(bounds, wire.slice_values)):
        sender = piece.owner if rank is None else rank
        arrived[piece.range], _ = wire.carry(encoder_input(x[piece.range]), index, sender)
    return wire.stored(arrived)


def all_gather(inputs: Sequence[F32], wire: Wire = FP32) -> F32:
    """Return all ranks' arrays one after another, as every rank has them. Sizes are those of even chunks."""
    whole = np.concatenate(inputs)
    bounds = even_bounds(whole.size, len(inputs))
    if [x.size for x in inputs] != [end - start for start, end in pairwise(bounds)]:
        raise InvalidArgument("arrays must have the sizes of even chunks")
    return _carried(whole, bounds, wire)


def broadcast(x: F32, wire: Wire = FP32, root: int = 0) -> F32:
    """Return the root's array as every rank has it, the root too."""
    return _carried(x, [0, x.size], wire, root)


def all_to_all(inputs: Sequence[F32], wire: Wire = FP32) -> list[F32]:
    """Return what each rank gets: the even chunk with its number of every rank's array, its own too."""
    bounds = even_bounds(inputs[0].size, len(inputs))
    arrived = [_carried(x, bounds, wire, sender) for sender, x in enumerate(inputs)]
    return [np.concatenate([x[bounds[r] : bounds[r + 1]] for x in arrived]) for r in range(len(inputs))]
