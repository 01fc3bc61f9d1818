"""What the programs of both transports have in common: a plan bound to the parameters and their residuals."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire.ddp.bases import MatrixBasis
from thinwire.ddp.device_stand_in import DeviceStandIn
from thinwire.ddp.factors import MatrixFactors
from thinwire.ddp.memory import Memory
from thinwire.ddp.model import real_view
from thinwire.ddp.pending import Pending
from thinwire.ddp.plan import BasisShape, Plan, Share
from thinwire.ddp.powersgd import FactorShape, sends_left
from thinwire.ddp.stand_in import Factored, StandIn
from thinwire.ddp.step import Step

DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""The dtypes that are compressed, by their number in a frame."""
ITEM_BYTES = {code: dtype.itemsize for dtype, code in DTYPE_CODES.items()}
"""Of a value, by that number."""
ResidualAddresses = tuple[list[int] | None, list[int] | None]
"""The address of each segment's residual (0: it has none) in both arrays of `Residuals`; None for none."""
DeviceLesson = tuple[_core.Basis, int, int, int, float, int, int]
"""What `_core.cuda_learn` takes."""
DeviceFactorLesson = tuple[_core.LowRank, int, int]
"""What `_core.cuda_learn_factors` takes."""


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
        factors: the shapes of their factors, None without.
        is_left: which factors travel; None where none does and all is learnt from the mean.
        dtype: the bucket's.
    """

    parameters: Sequence[torch.Tensor]
    keeps: Sequence[bool]
    bases: Sequence[BasisShape | None]
    share: float
    factors: Sequence[FactorShape | None]
    is_left: bool | None
    dtype: torch.dtype

    def reduced(self, sizes: Sequence[int]) -> list[int]:
        """Return how many values stand for each parameter, of which it has as many as `sizes` says."""
        if self.is_left is None:
            return list(sizes)
        return [
            size if shape is None else shape.values(self.is_left)
            for size, shape in zip(sizes, self.factors, strict=True)
        ]


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

    def take(self, buffer: int, dtype: int, step: int) -> None:
        """Learn from the decoded bucket at this address, then leave in it what is handed over now."""
        matrix = buffer + self.offset
        self.basis.learn(matrix, dtype, self.rows)
        if self.pending is not None:
            self.pending.spread(self.basis, matrix, dtype, self.share)

    def on_device(self, buffer: int) -> DeviceLesson:
        """Return the lesson of the decoded bucket at this address, for `_core.cuda_learn`."""
        matrix, basis = buffer + self.offset, self.basis
        before, after = self.pending.write_next() if self.pending is not None else (0, 0)
        return basis.native, matrix, self.rows, basis.write_next(), self.share, before, after


@dataclass(frozen=True)
class FactorLesson:
    """What a bucket teaches about the factors of a matrix, `offset` bytes into it, while none travels."""

    factors: MatrixFactors
    offset: int

    def take(self, buffer: int, dtype: int, step: int) -> None:
        """Learn from the decoded bucket at this address."""
        self.factors.learn_from(sends_left(step), buffer + self.offset, dtype)

    def on_device(self, buffer: int, is_left: bool) -> DeviceFactorLesson:
        """Return the lesson of the decoded bucket at this address, for `_core.cuda_learn_factors`."""
        return self.factors.native, buffer + self.offset, self.factors.write_next(is_left)


class BaseProgram:
    """A bucket's plan, bound to this rank's residuals and to what is shared.

    Attributes:
        parameters: the parameters in the order of the bucket, kept alive.
        dtype: of what is reduced, by its number in a frame.
        values: how many are reduced.
        residual_dtype: of the residuals that are added to them, by its number in a frame.
        watched: (number, first value, values) of the parameters that are held without a gradient.
        lessons: what the decoded bucket teaches about its matrices.
        stand_in: what is reduced in place of the bucket; None for the bucket itself.
    """

    def __init__(self, plan: Plan, bound: Bound, memory: Memory) -> None:
        self.plan = plan
        self.parameters = tuple(bound.parameters)
        sizes = [real_view(parameter).numel() for parameter in self.parameters]
        self.stand_in = _stand_in(sizes, bound, memory)
        if self.stand_in is None:
            self._bind_bucket(sizes, bound, memory)
        else:
            self._bind_stand_in(self.stand_in, bound)

    def begin(self, buffer: torch.Tensor, step: Step) -> torch.Tensor:
        """Return what is reduced of a bucket: the bucket, or what stands in for it."""
        if self.stand_in is None:
            return buffer
        self.stand_in.take(buffer, step)
        return self.stand_in.values

    def end(self, buffer: torch.Tensor, step: Step) -> None:
        """Put the mean into the bucket, learn from it, and leave in it what the optimizer gets now.

        On a CUDA device this is only launched, in the order of torch's current stream.
        """
        if self.stand_in is not None and not self.stand_in.give(buffer, step):
            step.nonfinite = True
        if can_overflow(buffer.dtype) and self._has_overflowed(buffer):
            step.nonfinite = True
        if step.nonfinite:
            return
        if buffer.is_cuda:
            self._learn_on_device(buffer, step)
            return
        for lesson in self.lessons:
            lesson.take(buffer.data_ptr(), self.dtype, step.number)

    def zeros(self, values: torch.Tensor) -> list[int]:
        """Return the watched parameters that are all zero in what is reduced, which lies on the host.

        They keep their residual, and send zeros.
        """
        base, item = values.data_ptr(), values.itemsize
        return [i for i, first, n in self.watched if _core.is_zero(base + first * item, n, self.dtype)]

    @property
    def is_learnt_from(self) -> bool:
        """Whether all ranks learn from the mean, so that none can do without it."""
        return bool(self.lessons) or self.stand_in is not None

    def _bind_bucket(self, sizes: Sequence[int], bound: Bound, memory: Memory) -> None:
        self.dtype, item = DTYPE_CODES[bound.dtype], bound.dtype.itemsize
        starts = starts_of(sizes)
        self.values = sum(sizes)
        self.watched = [(i, starts[i], sizes[i]) for i, kept in enumerate(bound.keeps) if kept]
        arrays = {i: memory.residuals.of(self.parameters[i]) for i, _, _ in self.watched}
        self._addresses = {i: (a.data_ptr(), b.data_ptr()) for i, (a, b) in arrays.items()}
        self.residual_dtype = DTYPE_CODES[memory.residuals.dtype]
        self._residual_bytes = memory.residuals.dtype.itemsize
        shapes = {i: shape for i, shape in enumerate(bound.bases) if shape is not None}
        found = {i: memory.bases.of_matrix(self.parameters[i], shape) for i, shape in shapes.items()}
        self.lessons: list[Lesson | FactorLesson] = []
        for i, shape in shapes.items():
            rows, pending = sizes[i] // shape.columns, None
            if bound.share < 1:
                pending = memory.pending.of_matrix(self.parameters[i])
            self.lessons.append(Lesson(found[i], starts[i] * item, rows, pending, bound.share))
        for i, factors in enumerate(bound.factors):
            if factors is not None:
                learner = memory.factors.of_matrix(self.parameters[i], factors)
                self.lessons.append(FactorLesson(learner, starts[i] * item))
        self._bases = {i: basis.native for i, basis in found.items()}

    def _bind_stand_in(self, stand_in: StandIn, bound: Bound) -> None:
        losses = stand_in.losses
        self.dtype = self.residual_dtype = DTYPE_CODES[losses.dtype]
        self._residual_bytes = losses.itemsize
        self.values = losses.numel()
        places = {i: stand_in.starts[i] for i, shape in enumerate(bound.factors) if shape is not None}
        addresses = {i: losses[start:].data_ptr() for i, start in places.items()}
        self._addresses = {i: (address, address) for i, address in addresses.items()}
        self.watched, self.lessons, self._bases = [], [], {}

    def _learn_on_device(self, buffer: torch.Tensor, step: Step) -> None:
        address, stream = buffer.data_ptr(), torch.cuda.current_stream(buffer.device).cuda_stream
        is_left = sends_left(step.number)
        bases = [lesson.on_device(address) for lesson in self.lessons if isinstance(lesson, Lesson)]
        factors = [
            lesson.on_device(address, is_left) for lesson in self.lessons if isinstance(lesson, FactorLesson)
        ]
        _core.cuda_learn(bases, self.dtype, stream)
        _core.cuda_learn_factors(factors, is_left, self.dtype, stream)

    def _has_overflowed(self, buffer: torch.Tensor) -> bool:
        """Say whether the mean is not finite in the bucket: the same on all ranks. Waits for the device."""
        return not bool(buffer.isfinite().all())

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


def can_overflow(dtype: torch.dtype) -> bool:
    """Say whether a mean that is finite in fp32 may not be so in a bucket of this dtype."""
    return dtype == torch.float16


def starts_of(sizes: Sequence[int]) -> list[int]:
    """Return where each begins if they are laid out one after another."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts


def _stand_in(sizes: Sequence[int], bound: Bound, memory: Memory) -> StandIn | None:
    """Return what stands in for a bucket; None where no factor travels."""
    if bound.is_left is None or not any(bound.factors):
        return None
    factored = [
        None
        if shape is None
        else Factored(
            memory.factors.of_matrix(parameter, shape), memory.residuals.of(parameter) if kept else None
        )
        for parameter, shape, kept in zip(bound.parameters, bound.factors, bound.keeps, strict=True)
    ]
    dtypes = DTYPE_CODES[bound.dtype], DTYPE_CODES[memory.residuals.dtype]
    device = bound.parameters[0].device
    kind = StandIn if device.type == "cpu" else DeviceStandIn
    return kind(sizes, bound.reduced(sizes), factored, bound.is_left, bound.dtype.itemsize, dtypes, device)
