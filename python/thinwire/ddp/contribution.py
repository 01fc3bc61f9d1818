"""What a rank has to give of a bucket in one step, and where, whatever memory that is.

With `w` a rank's weight, `g` its gradient and `R` its residual, every rank but the owner sends `w g + R` and
keeps what the codec lost. The owner starts from its own `w g + R`, unquantised, adds the others' decoded
frames in the order of ranks, encodes the sum once and keeps what that lost. All ranks, the owner too, decode
the same bytes into the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from thinwire.ddp.program import FP32, Program, ShareProgram
from thinwire.ddp.step import Step


class Values(NamedTuple):
    """What one frame is made of, in the order in which the kernels take it. Addresses; dtypes by number."""

    x: int
    dtype: int
    scale: float
    residual_in: list[int] | None
    residual_out: list[int] | None
    residual_dtype: int
    held: list[bool] | None


@dataclass(frozen=True)
class Contribution:
    """A bucket in one step: where its values are, and which parameters have no gradient here (by number)."""

    program: Program
    step: Step
    base: int
    held: frozenset[int]

    def place(self, share: ShareProgram) -> int:
        """Return the address of a share's values in the bucket."""
        return self.base + share.offset

    def own(self, share: ShareProgram) -> Values:
        """Return what this rank gives to a share."""
        return Values(
            self.place(share),
            self.program.dtype,
            self.step.weight,
            share.residuals[self.step.source],
            share.residuals[self.step.target],
            self.program.residual_dtype,
            share.held(self.held),
        )

    def sum(self, share: ShareProgram, total: int) -> Values:
        """Return what all ranks gave to this rank's share, which lies at address `total` in fp32.

        Only a held segment's residual is not in the sum yet; what the codec loses now comes on top of it.
        """
        own = self.own(share)
        before, held = own.residual_in, own.held
        kept = [r if h else 0 for r, h in zip(before, held, strict=True)] if before and held else None
        return own._replace(x=total, dtype=FP32, scale=1.0, residual_in=kept)
