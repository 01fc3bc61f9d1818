"""A plan bound to the memory of a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from thinwire import _core
from thinwire.ddp.base_program import Bound, Identity
from thinwire.ddp.memory import Memory
from thinwire.ddp.pipeline import Pipeline
from thinwire.ddp.plan import Plan
from thinwire.ddp.program import Program, ShareProgram


class Room(NamedTuple):
    """Bytes of a slot."""

    send: int
    recv: int


class Needs(NamedTuple):
    """The memory that the pieces of a program need: slots of both phases, a sum, working memory."""

    to_owner: Room
    from_owner: Room
    scratch_values: int
    work_bytes: int


class DeviceProgram(Program):
    """A bucket's plan, bound to residuals on a device and to the buffers of its pipeline.

    Attributes besides those of `Program`:
        found: (watched,) int32 on the device: 0 where a watched parameter has no gradient in this step.
        spreads: whether a part of the mean is handed over later.
    """

    def __init__(
        self,
        pipeline_of: Callable[[torch.device], Pipeline],
        plan: Plan,
        bucket: int,
        bound: Bound,
        memory: Memory,
        me: Identity,
    ) -> None:
        super().__init__(plan, bucket, bound, memory, me)
        pipeline = pipeline_of(self.parameters[0].device)
        self.found = torch.zeros(len(self.watched), dtype=torch.int32, device=pipeline.device)
        self.spreads = bound.share < 1 and any(bound.bases)
        flags = {i: self.found[k:].data_ptr() for k, (i, _, _) in enumerate(self.watched)}
        self._used = {share: share.flags(flags) for piece in self.pieces for share in piece.shares}
        pipeline.ensure(self._needs(me.size))

    def used(self, share: ShareProgram) -> list[int] | None:
        """Return the address of each segment's word in `found` (0: none); None for a share without any."""
        return self._used[share]

    def _has_overflowed(self, buffer: torch.Tensor) -> bool:
        """Leave it to the step's outcome, which nobody waits for."""
        return False

    def _needs(self, ranks: int) -> Needs:
        pieces = self.pieces
        to_owner = Room(
            max((sum(piece.send_sizes) for piece in pieces), default=0),
            max((sum(piece.recv_sizes) for piece in pieces), default=0),
        )
        slot = max((piece.slot for piece in pieces), default=0)
        layouts = [share.layout for share in self._used]
        work = [_core.cuda_work_bytes(layout, max(ranks - 1, 1)) for layout in layouts]
        sums = max([len(self.watched), *(len(layout.segments) for layout in layouts)])
        work.append(_core.cuda_sum_work_bytes(sums))
        return Needs(to_owner, Room(slot, ranks * slot), self.scratch_values, max(work))
