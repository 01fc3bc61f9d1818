"""What a rank keeps from step to step: its own residuals, and what all ranks share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from thinwire.ddp.bases import Bases
from thinwire.ddp.checkpoint import Kept
from thinwire.ddp.factors import Factors
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.pending import Pendings


@dataclass(frozen=True)
class Memory:
    """Residuals, bases, pending parts and factors, which a step changes together or not at all."""

    residuals: Residuals
    bases: Bases
    pending: Pendings
    factors: Factors

    def commit(self, served: Collection[torch.Tensor]) -> None:
        """Make what the last step wrote current. `served`: the parameters that were in its buckets."""
        self.residuals.commit(served)
        self.bases.commit()
        self.pending.commit()
        self.factors.commit()

    def discard(self) -> None:
        """Forget what the last step learnt and left: it was not finite, or failed."""
        self.bases.discard()
        self.pending.discard()
        self.factors.discard()

    def rescale(self, factor: float) -> None:
        """Follow a change of the loss scale. Bases and factors have no scale."""
        self.residuals.rescale(factor)
        self.pending.rescale(factor)

    def shared(self) -> list[tuple[str, torch.Tensor]]:
        """Return what all ranks must hold alike, and what it is."""
        return [*self.bases.named(), *self.pending.named(), *self.factors.named()]

    @property
    def shared_bytes(self) -> int:
        """Bytes of what all ranks hold alike."""
        return self.bases.nbytes + self.pending.nbytes + self.factors.nbytes

    def state(self) -> Kept:
        """Return copies of what is current, by name."""
        shared = self.bases.state(), self.pending.state(), self.factors.state()
        return Kept(self.residuals.state(), *shared)

    def check(self, kept: Kept) -> None:
        """Raise InvalidArgument if `load(kept)` would not fit by name and shape."""
        self.residuals.check(kept.residuals)
        self.bases.check(kept.bases)
        self.pending.check(kept.pending)
        self.residuals.check_parts(kept.pending)
        self.factors.check(kept.factors)

    def load(self, kept: Kept) -> None:
        """Replace what is current; see `Residuals.load` and `SharedArrays.load`."""
        self.residuals.load(kept.residuals)
        self.bases.load(kept.bases)
        self.pending.load(kept.pending)
        self.factors.load(kept.factors)
