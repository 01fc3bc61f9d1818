"""A bucket under PowerSGD without an engine: what its tests with a device and without one share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from thinwire.ddp.base_program import DTYPE_CODES
from thinwire.ddp.factors import MatrixFactors
from thinwire.ddp.powersgd import FactorShape, sends_left
from thinwire.ddp.stand_in import Factored, StandIn
from thinwire.ddp.step import Step

Part = tuple[int, int, int]
"""Rows, columns and rank of a matrix. Rank 0: it does not travel as a factor."""


def step_of(number: int) -> Step:
    """Return a step, which reads and writes the residual arrays in turn."""
    return Step(number, 0.3, number % 2, 1 - number % 2)


class FactoredBucket:
    """A bucket of some parts on a device, with what is kept of it from step to step."""

    def __init__(
        self,
        kind: type[StandIn],
        device: str,
        parts: Sequence[Part],
        dtype: torch.dtype = torch.float32,
        residual_dtype: torch.dtype = torch.float32,
    ) -> None:
        where = torch.device(device)
        sizes = [rows * columns for rows, columns, _ in parts]
        self.buffer = torch.zeros(sum(sizes), dtype=dtype, device=where)
        self.factors = [
            MatrixFactors(FactorShape(rank, rows, columns), 1, where) if rank else None
            for rows, columns, rank in parts
        ]
        self.residuals = [
            torch.zeros(2, n, dtype=residual_dtype, device=where) if part[2] else None
            for n, part in zip(sizes, parts, strict=True)
        ]
        factored = [
            Factored(f, (r[0], r[1])) if f is not None and r is not None else None
            for f, r in zip(self.factors, self.residuals, strict=True)
        ]
        dtypes = DTYPE_CODES[dtype], DTYPE_CODES[residual_dtype]
        self.stand_ins = {}
        for is_left in (True, False):
            reduced = [
                n if f is None else f.shape.values(is_left) for n, f in zip(sizes, self.factors, strict=True)
            ]
            self.stand_ins[is_left] = kind(
                sizes, reduced, factored, is_left, self.buffer.itemsize, dtypes, where
            )

    def step(self, number: int, gradients: torch.Tensor, gain: float = 1.0) -> bool:
        """Give what was sent of the gradients, times `gain`, for the mean. Return whether it is finite."""
        self.buffer.copy_(gradients)
        step, stand_in = step_of(number), self.stand_ins[sends_left(number)]
        stand_in.take(self.buffer, step)
        given = stand_in.values + stand_in.losses
        stand_in.losses.div_(64)
        stand_in.values.copy_((given - stand_in.losses) * gain)
        finite = stand_in.give(self.buffer, step)
        for factors in filter(None, self.factors):
            factors.commit()
        return finite

    def state(self) -> list[torch.Tensor]:
        """Return all of it, in host memory."""
        kept = [*self.residuals, *(f.current for f in self.factors if f is not None)]
        return [t.cpu() for t in (self.buffer, *kept) if t is not None]
