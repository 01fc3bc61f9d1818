"""What a rank keeps from step to step: its own residuals, and what all ranks share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thinwire.ddp.bases import Bases
from thinwire.ddp.checkpoint import Kept
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.pending import Pendings


@dataclass(frozen=True)
class Memory:
    """Residuals, bases and pending parts, which a step changes together or not at all."""

    residuals: Residuals
    bases: Bases
    pending: Pendings

    def commit(self) -> None:
        """Make what the last step wrote current."""
        self.residuals.commit()
        self.bases.commit()
        self.pending.commit()

    def discard(self) -> None:
        """Forget what the last step learnt and left: it was not finite, or failed."""
        self.bases.discard()
        self.pending.discard()

    def rescale(self, factor: float) -> None:
        """Follow a change of the loss scale. A basis has no scale."""
        self.residuals.rescale(factor)
        self.pending.rescale(factor)

    def shared(self) -> list[tuple[str, torch.Tensor]]:
        """Return what all ranks must hold alike, and what it is."""
        return [*self.bases.named(), *self.pending.named()]

    def state(self) -> Kept:
        """Return copies of what is current, by name."""
        return Kept(self.residuals.state(), self.bases.state(), self.pending.state())

    def check(self, kept: Kept) -> None:
        """Raise InvalidArgument if `load(kept)` would not fit by name and shape."""
        self.residuals.check(kept.residuals)
        self.bases.check(kept.bases)
        self.pending.check(kept.pending)

    def load(self, kept: Kept) -> None:
        """Replace what is current; see `Residuals.load` and `SharedArrays.load`."""
        self.residuals.load(kept.residuals)
        self.bases.load(kept.bases)
        self.pending.load(kept.pending)
