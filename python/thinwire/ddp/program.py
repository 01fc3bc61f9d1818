"""A plan bound to memory: every offset, address and header that a step needs, worked out once.

What is left for a step is to add the address of the bucket's buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire._core import Header, Layout
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.model import real_view
from thinwire.ddp.plan import Piece, Plan, Share, slot_bytes

TO_OWNER, FROM_OWNER = 1, 2
"""The phases of a frame."""
DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""The dtypes that are compressed, by their number in a frame."""
FP32 = DTYPE_CODES[torch.float32]


@dataclass(frozen=True)
class Identity:
    """Who sends: the job's random number, the rank, the number of ranks, the seed of stochastic rounding."""

    group: int
    rank: int
    size: int
    seed: int


class ShareProgram:
    """One share of one piece, ready to encode, add up and decode.

    Attributes:
        layout, slot: the frame's layout, and the bytes reserved for it.
        offset: bytes from the start of the bucket's buffer.
        residuals: the segments' residual addresses, for each of the two arrays of `Residuals`; None if it has
            none.
        header: what this rank writes into its frame of this share (to the owner, or as the owner).
    """

    __slots__ = (
        "_key_seed",
        "_parameters",
        "_stochastic",
        "header",
        "layout",
        "offset",
        "owner",
        "residuals",
        "slot",
    )

    def __init__(
        self, share: Share, layout: Layout, item_bytes: int, addresses: _Addresses, header: Header, seed: int
    ):
        self.owner = share.owner
        self.layout = layout
        self.slot = slot_bytes(layout.frame_bytes)
        self.offset = share.start * item_bytes
        self.residuals = residual_addresses(share, addresses.by_parameter, addresses.item_bytes)
        self.header = header
        self._parameters = tuple(segment.parameter for segment in share.segments)
        self._stochastic = any(s.codec.params.get("rounding") == "stochastic" for s in share.segments)
        self._key_seed = seed

    def held(self, parameters: frozenset[int]) -> list[bool] | None:
        """Return which segments belong to one of `parameters`, or None if none does."""
        if not parameters or parameters.isdisjoint(self._parameters):
            return None
        return [parameter in parameters for parameter in self._parameters]

    def key(self, step: int) -> int:
        """Return the key of stochastic rounding, different for every frame."""
        return _core.xxh3_64(struct.pack("<QQ", self._key_seed, step)) if self._stochastic else 0


class PieceProgram:
    """One piece: the shares of all ranks, and where their frames lie in the buffers of both phases.

    Attributes:
        index: position in the bucket; the frames' `slice`.
        shares: the shares that are not empty, by owner.
        mine: the share this rank owns, or None if that is empty.
        others: the other ranks' shares.
        outgoing: (share, offset in the send buffer) of the frames to other owners.
        incoming: (rank, offset in the receive buffer) of the frames this rank gets as an owner, by rank.
        send_sizes, recv_sizes: bytes to and from every rank in phase 1.
        slot: bytes of every rank's frame in phase 2.
    """

    __slots__ = (
        "incoming",
        "index",
        "mine",
        "others",
        "outgoing",
        "recv_sizes",
        "send_sizes",
        "shares",
        "slot",
    )

    def __init__(self, index: int, shares: Sequence[ShareProgram], me: Identity) -> None:
        self.index = index
        self.shares = tuple(shares)
        self.others = [share for share in shares if share.owner != me.rank]
        by_owner = {share.owner: share for share in shares}
        self.mine = by_owner.get(me.rank)
        ranks = range(me.size)
        self.send_sizes = [by_owner[r].slot if r in by_owner and r != me.rank else 0 for r in ranks]
        self.recv_sizes = [self.mine.slot if self.mine and r != me.rank else 0 for r in ranks]
        self.outgoing = [(by_owner[r], at) for r, at in _offsets(self.send_sizes)]
        self.incoming = list(_offsets(self.recv_sizes))
        self.slot = max(share.slot for share in shares)


class Program:
    """A bucket's plan, bound to this rank's residuals.

    Attributes:
        parameters: the parameters in the order of the bucket, kept alive.
        watched: (number, offset in bytes, values) of the parameters that have a residual.
        scratch_values: the most values of a share this rank adds up.
    """

    def __init__(
        self,
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
        item = dtype.itemsize
        sizes = [real_view(parameter).numel() for parameter in parameters]
        starts = starts_of(sizes)
        self.watched = [(i, starts[i] * item, sizes[i]) for i, kept in enumerate(keeps) if kept]
        addresses = {i: residuals.addresses(parameters[i]) for i, _, _ in self.watched}
        bound = _Addresses(addresses, residuals.dtype.itemsize)
        self.pieces = [self._piece(i, piece, bucket, item, bound, me) for i, piece in enumerate(plan.pieces)]
        self.scratch_values = max((p.mine.layout.count for p in self.pieces if p.mine), default=0)

    def _piece(
        self, index: int, piece: Piece, bucket: int, item: int, addresses: _Addresses, me: Identity
    ) -> PieceProgram:
        shares = []
        for share in piece.shares:
            if share.count == 0:
                continue
            phase = FROM_OWNER if share.owner == me.rank else TO_OWNER
            header = Header(group=me.group, bucket=bucket, slice=index, sender=me.rank, phase=phase)
            seed = _core.xxh3_64(struct.pack("<QIIII", me.seed, me.rank, bucket, index, share.owner))
            layout = share.layout(self.plan.plan_id)
            shares.append(ShareProgram(share, layout, item, addresses, header, seed))
        return PieceProgram(index, shares, me)


@dataclass(frozen=True)
class _Addresses:
    """Addresses of both residual arrays by parameter number, and the bytes of a residual."""

    by_parameter: dict[int, tuple[int, int]]
    item_bytes: int


def residual_addresses(
    share: Share, by_parameter: dict[int, tuple[int, int]], item_bytes: int
) -> tuple[list[int] | None, list[int] | None]:
    """Return the address of each segment's residual in both arrays of `Residuals` (0: it has none).

    `by_parameter` has the addresses of the parameters' residuals by number. None if no segment has one.
    """
    if not any(segment.parameter in by_parameter for segment in share.segments):
        return None, None

    def of_array(which: int) -> list[int]:
        found = []
        for segment in share.segments:
            base = by_parameter.get(segment.parameter)
            found.append(base[which] + segment.offset * item_bytes if base else 0)
        return found

    return of_array(0), of_array(1)


def _offsets(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return (rank, offset) of every size that is not 0, laid out one after another."""
    return [
        (rank, start) for rank, (start, size) in enumerate(zip(starts_of(sizes), sizes, strict=True)) if size
    ]


def starts_of(sizes: Sequence[int]) -> list[int]:
    """Return where each begins if they are laid out one after another."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts
