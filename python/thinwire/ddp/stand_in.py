"""What the engine reduces in place of a bucket under PowerSGD (`docs/powersgd.md`).

With `y = w g + R` of a matrix, a rank sends one factor `P` of it, of which the codec loses `L`, and keeps
`R = y - (P - L) Q`, where `Q` is the other factor. Whatever the codec did, what was sent and what is kept add
up to y. All ranks put the mean of P, times Q, into the bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire.ddp.factors import MatrixFactors
from thinwire.ddp.step import Step


@dataclass(frozen=True)
class Factored:
    """A matrix of the bucket that travels as a factor, with its two residual arrays if it keeps any."""

    factors: MatrixFactors
    residuals: tuple[torch.Tensor, torch.Tensor] | None

    def addresses(self, step: Step) -> tuple[int, int]:
        """Return where a step reads the residual and where it writes it; 0 for nowhere."""
        if self.residuals is None:
            return 0, 0
        return self.residuals[step.source].data_ptr(), self.residuals[step.target].data_ptr()


@dataclass(frozen=True)
class _Matrix:
    """Where a matrix lies in the bucket (bytes), and its factor in the stand-in (values)."""

    offset: int
    count: int
    factor: slice
    of: Factored


@dataclass(frozen=True)
class _Run:
    """Values that the stand-in has as the bucket has them."""

    bucket: slice
    stand_in: slice


class StandIn:
    """The factors of a bucket's large matrices, and its other values.

    The engine adds to what it reduces a residual, unweighted, and leaves there what the codec lost. So the
    factors, which hold the weight already, are handed to it as residuals of zeros.

    Args:
        sizes, reduced: values of the bucket's parameters, in order, and of what stands for them.
        factored: those that travel as a factor; None for the others.
        is_left: which factor.
        item_bytes: of a value in the bucket.
        dtypes: of the bucket and of the residuals, by their number in a frame.
        device: of the bucket.

    Attributes:
        values: what the engine reduces, fp32; afterwards the means.
        losses: the factors, which what the codec lost of them replaces.
        starts: of the parameters in both, in values.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        reduced: Sequence[int],
        factored: Sequence[Factored | None],
        is_left: bool,
        item_bytes: int,
        dtypes: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._is_left = is_left
        self._dtype, self._residual_dtype = dtypes
        self._matrices: list[_Matrix] = []
        self._runs: list[_Run] = []
        self.starts: list[int] = []
        at = start = 0
        for size, count, matrix in zip(sizes, reduced, factored, strict=True):
            self.starts.append(start)
            here, there = slice(at, at + size), slice(start, start + count)
            if matrix is not None:
                self._matrices.append(_Matrix(at * item_bytes, size, there, matrix))
            elif self._runs and self._runs[-1].bucket.stop == at:
                last = self._runs.pop()
                here, there = slice(last.bucket.start, here.stop), slice(last.stand_in.start, there.stop)
                self._runs.append(_Run(here, there))
            else:
                self._runs.append(_Run(here, there))
            at, start = here.stop, there.stop
        arrays = torch.zeros(3, start, dtype=torch.float32, device=device)
        self.values, self.losses, self._sent = arrays.unbind()

    def take(self, buffer: torch.Tensor, step: Step) -> None:
        """Take the factors and the other values of a bucket."""
        self.values.zero_()
        for run in self._runs:
            self.values[run.stand_in].copy_(buffer[run.bucket])
        for matrix in self._matrices:
            self._factorise(matrix, buffer.data_ptr() + matrix.offset, step)
        self._sent.copy_(self.losses)

    def give(self, buffer: torch.Tensor, step: Step) -> bool:
        """Put what the means stand for into the bucket, keep what was not sent, learn the next factors.

        Return whether the matrices are finite now, the same on all ranks: a product of finite factors may be
        beyond what the bucket's dtype holds.
        """
        self._sent.sub_(self.losses)
        for run in self._runs:
            buffer[run.bucket].copy_(self.values[run.stand_in])
        finite = [self._deliver(m, buffer.data_ptr() + m.offset, step) for m in self._matrices]
        return all(finite)

    def error_of_one(self, number: int, step: Step) -> tuple[float, float]:
        """Return the squared norms of what a matrix has not sent, and of what it had to send.

        `number` chooses the matrix. The two parts are orthogonal. After `give`; zeros without feedback.
        """
        matrix = self._matrices[number % len(self._matrices)]
        if matrix.of.residuals is None:
            return 0.0, 0.0
        kept = _squared_norm(matrix.of.residuals[step.target])
        return kept, kept + _squared_norm(self._sent[matrix.factor])

    def _factorise(self, matrix: _Matrix, x: int, step: Step) -> None:
        factor, factors = self.losses[matrix.factor], matrix.of.factors
        if _core.is_zero(x, matrix.count, self._dtype):
            factor.zero_()  # the residual stays where it is
            return
        source, _ = matrix.of.addresses(step)
        factors.native.factor(
            self._is_left, x, self._dtype, step.weight, source, self._residual_dtype, factor.data_ptr()
        )

    def _deliver(self, matrix: _Matrix, x: int, step: Step) -> bool:
        mean, factors = self.values[matrix.factor].data_ptr(), matrix.of.factors
        source, target = matrix.of.addresses(step)
        is_finite = factors.native.deliver(
            self._is_left,
            x,
            self._dtype,
            step.weight,
            source,
            target,
            self._residual_dtype,
            self._sent[matrix.factor].data_ptr(),
            mean,
        )
        factors.learn(self._is_left, mean)
        return is_finite


def _squared_norm(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
