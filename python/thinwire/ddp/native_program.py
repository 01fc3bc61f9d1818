"""A plan bound to memory for the native engine: what every step needs, worked out once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch

from thinwire import _core
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.model import real_view
from thinwire.ddp.plan import Plan, Share
from thinwire.ddp.program import DTYPE_CODES, Identity, residual_addresses, starts_of


class NativeProgram:
    """A bucket's plan, bound to this rank's residuals.

    Attributes:
        parameters: the parameters in the order of the bucket, kept alive.
        watched: (number, offset in bytes, values) of the parameters that have a residual.
        native: the plan in the engine's form.
        slices: how many there are.
    """

    def __init__(
        self,
        rank: _core.Rank,
        plan: Plan,
        bucket: int,
        parameters: Sequence[torch.Tensor],
        keeps: Sequence[bool],
        dtype: torch.dtype,
        residuals: Residuals,
        me: Identity,
    ) -> None:
        self.plan = plan
        self.parameters = tuple(parameters)
        self.dtype = DTYPE_CODES[dtype]
        sizes = [real_view(parameter).numel() for parameter in parameters]
        starts = starts_of(sizes)
        self.watched = [(i, starts[i] * dtype.itemsize, sizes[i]) for i, kept in enumerate(keeps) if kept]
        addresses = {i: residuals.addresses(parameters[i]) for i, _, _ in self.watched}
        slices: list[Any] = []
        for index, piece in enumerate(plan.pieces):
            for share in piece.shares:
                if share.count:
                    before, after = residual_addresses(share, addresses, residuals.dtype.itemsize)
                    slices.append(
                        (
                            share.start,
                            share.count,
                            share.owner,
                            index,
                            share.layout(plan.plan_id),
                            [segment.parameter for segment in share.segments],
                            before,
                            after,
                            _key_seed(me, bucket, len(slices), share),
                        )
                    )
        self.slices = len(slices)
        algorithm = rank.choose_algorithm(sum(sizes), compressed=True)
        self.native = rank.make_plan(
            slices, plan.plan_id, self.dtype, DTYPE_CODES[residuals.dtype], algorithm
        )


def _key_seed(me: Identity, bucket: int, index: int, share: Share) -> int:
    """Return the seed of stochastic rounding, different for every slice and rank."""
    return _core.xxh3_64(struct.pack("<QIIII", me.seed, me.rank, bucket, index, share.owner))
