"""What a rank keeps from step to step: its own residuals, and the bases that all ranks share."""

from __future__ import annotations

from dataclasses import dataclass

from thinwire.ddp.bases import Bases
from thinwire.ddp.checkpoint import Kept
from thinwire.ddp.feedback import Residuals


@dataclass(frozen=True)
class Memory:
    """Residuals and bases, which a step changes together or not at all."""

    residuals: Residuals
    bases: Bases

    def commit(self) -> None:
        """Make what the last step wrote current."""
        self.residuals.commit()
        self.bases.commit()

    def discard(self) -> None:
        """Forget what the last step learnt: it was not finite, or failed."""
        self.bases.discard()

    def state(self) -> Kept:
        """Return copies of what is current, by name."""
        return Kept(self.residuals.state(), self.bases.state())

    def check(self, kept: Kept) -> None:
        """Raise InvalidArgument if `load(kept)` would not fit by name and shape."""
        self.residuals.check(kept.residuals)
        self.bases.check(kept.bases)

    def load(self, kept: Kept) -> None:
        """Replace what is current; see `Residuals.load` and `Bases.load`."""
        self.residuals.load(kept.residuals)
        self.bases.load(kept.bases)
