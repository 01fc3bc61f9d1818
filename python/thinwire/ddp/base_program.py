"""What the programs of both transports have in common: a plan bound to the parameters and their residuals."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire.ddp.bases import MatrixBasis
from thinwire.ddp.memory import Memory
from thinwire.ddp.model import real_view
from thinwire.ddp.pending import Pending
from thinwire.ddp.plan import BasisShape, Plan, Share

DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""The dtypes that are compressed, by their number in a frame."""
ResidualAddresses = tuple[list[int] | None, list[int] | None]
"""The address of each segment's residual (0: it has none) in both arrays of `Residuals`; None for none."""


@dataclass(frozen=True)
class Identity:
    """Who sends: the job's random number, the rank, the number of ranks, the seed of stochastic rounding."""

    group: int
    rank: int
    size: int
    seed: int

    def key_seed(self, bucket: int, index: int, owner: int) -> int:
        """Return the seed of a share's rounding keys, different for every share and rank."""
        return _core.xxh3_64(struct.pack("<QIIII", self.seed, self.rank, bucket, index, owner))


@dataclass(frozen=True)
class Bound:
    """What is bound to a plan: the bucket's parameters, and what is kept for each from step to step.

    Attributes:
        parameters: in the order of the bucket.
        keeps: which of them have a residual.
        bases: the shapes of their shared bases, None without.
        share: of what arrives beside a basis, the part that a step hands over.
        dtype: the bucket's.
    """

    parameters: Sequence[torch.Tensor]
    keeps: Sequence[bool]
    bases: Sequence[BasisShape | None]
    share: float
    dtype: torch.dtype


@dataclass(frozen=True)
class Lesson:
    """What a bucket teaches about one of its matrices, and how the matrix is handed over.

    The gradient lies `offset` bytes into the bucket. Without `pending` it is left as it is; with it, the
    optimizer gets `share` of what is beside the basis.
    """

    basis: MatrixBasis
    offset: int
    rows: int
    pending: Pending | None
    share: float

    def take(self, buffer: int, dtype: int) -> None:
        """Learn from the decoded bucket at this address, then leave in it what is handed over now."""
        matrix = buffer + self.offset
        self.basis.learn(matrix, dtype, self.rows)
        if self.pending is not None:
            self.pending.spread(self.basis, matrix, dtype, self.share)


class BaseProgram:
    """A bucket's plan, bound to this rank's residuals and to the shared bases.

    Attributes:
        parameters: the parameters in the order of the bucket, kept alive.
        dtype: the bucket's, by its number in a frame.
        values: how many the bucket has.
        watched: (number, offset in bytes, values) of the parameters that have a residual.
        lessons: what the bucket teaches about its matrices.
    """

    def __init__(self, plan: Plan, bound: Bound, memory: Memory) -> None:
        self.plan = plan
        self.parameters = tuple(bound.parameters)
        self.dtype = DTYPE_CODES[bound.dtype]
        item = bound.dtype.itemsize
        sizes = [real_view(parameter).numel() for parameter in self.parameters]
        starts = starts_of(sizes)
        self.values = sum(sizes)
        self.watched = [(i, starts[i] * item, sizes[i]) for i, kept in enumerate(bound.keeps) if kept]
        self._addresses = {i: memory.residuals.addresses(self.parameters[i]) for i, _, _ in self.watched}
        self._residual_bytes = memory.residuals.dtype.itemsize
        shapes = {i: shape for i, shape in enumerate(bound.bases) if shape is not None}
        found = {i: memory.bases.of_matrix(self.parameters[i], shape) for i, shape in shapes.items()}
        self.lessons = []
        for i, shape in shapes.items():
            rows, pending = sizes[i] // shape.columns, None
            if bound.share < 1:
                pending = memory.pending.of_matrix(self.parameters[i], rows, shape.columns)
            self.lessons.append(Lesson(found[i], starts[i] * item, rows, pending, bound.share))
        self._bases = {i: basis.native for i, basis in found.items()}

    def learn(self, buffer: int) -> None:
        """Learn from the decoded bucket at this address, and leave in it what the optimizer gets now."""
        for lesson in self.lessons:
            lesson.take(buffer, self.dtype)

    def _layout_of(self, share: Share) -> _core.Layout:
        return share.layout(self.plan.plan_id, self._bases)

    def _residuals_of(self, share: Share) -> ResidualAddresses:
        """Return where a share's residuals are."""
        if not any(segment.parameter in self._addresses for segment in share.segments):
            return None, None

        def of_array(which: int) -> list[int]:
            found = []
            for segment in share.segments:
                base = self._addresses.get(segment.parameter)
                found.append(base[which] + segment.offset * self._residual_bytes if base else 0)
            return found

        return of_array(0), of_array(1)


def starts_of(sizes: Sequence[int]) -> list[int]:
    """Return where each begins if they are laid out one after another."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts
