"""A plan bound to memory for the native engine: what every step needs, worked out once."""

from __future__ import annotations

from collections.abc import Sequence

from thinwire import _core
from thinwire.ddp.base_program import BaseProgram, Bound, Identity
from thinwire.ddp.memory import Memory
from thinwire.ddp.plan import Plan


class NativeProgram(BaseProgram):
    """A bucket's plan, bound to this rank's residuals and to what is shared.

    Attributes besides those of `BaseProgram`:
        native: the plan in the engine's form.
        slices: how many there are.
    """

    def __init__(
        self,
        rank: _core.Rank,
        plan: Plan,
        bucket: int,
        bound: Bound,
        memory: Memory,
        me: Identity,
    ) -> None:
        super().__init__(plan, bound, memory)
        shares = [
            (piece, share) for piece, cut in enumerate(plan.pieces) for share in cut.shares if share.count
        ]
        slices = [
            (
                share.start,
                share.count,
                share.owner,
                piece_index,
                self._layout_of(share),
                [segment.parameter for segment in share.segments],
                *self._residuals_of(share),
                me.key_seed(bucket, index, share.owner),
            )
            for index, (piece_index, share) in enumerate(shares)
        ]
        self.slices = len(slices)
        algorithm = rank.choose_algorithm(self.values, compressed=True)
        self.native = rank.make_plan(slices, plan.plan_id, self.dtype, self.residual_dtype, algorithm)

    def flags(self, parameters: Sequence[int]) -> bytes:
        """Return a byte a parameter, 1 for those listed; nothing at all if none is."""
        if not parameters:
            return b""
        found = bytearray(len(self.parameters))
        for parameter in parameters:
            found[parameter] = 1
        return bytes(found)
