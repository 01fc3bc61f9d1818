"""A plan bound to memory: every offset, address and header that a step needs, worked out once.

What is left for a step is to add the address of the bucket's buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import torch

from thinwire import _core
from thinwire._core import Header, Layout
from thinwire.ddp.base_program import (
    DTYPE_CODES,
    ITEM_BYTES,
    BaseProgram,
    Bound,
    Identity,
    ResidualAddresses,
    starts_of,
)
from thinwire.ddp.memory import Memory
from thinwire.ddp.plan import Piece, Plan, Share, slot_bytes
from thinwire.ddp.report import SAMPLE_EVERY

TO_OWNER, FROM_OWNER = 1, 2
"""The phases of a frame."""
FP32 = DTYPE_CODES[torch.float32]
SAMPLE_VALUES = 1 << 16
"""Most values of a share to look at."""


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
        self,
        share: Share,
        layout: Layout,
        item_bytes: int,
        residuals: ResidualAddresses,
        header: Header,
        seed: int,
    ):
        self.owner = share.owner
        self.layout = layout
        self.slot = slot_bytes(layout.frame_bytes)
        self.offset = share.start * item_bytes
        self.residuals = residuals
        self.header = header
        self._parameters = tuple(segment.parameter for segment in share.segments)
        self._stochastic = any(s.coding.codec.params.get("rounding") == "stochastic" for s in share.segments)
        self._key_seed = seed

    def flags(self, addresses: Mapping[int, int]) -> list[int] | None:
        """Return each segment's address among those of parameters (0: none), or None if none has one."""
        if addresses.keys().isdisjoint(self._parameters):
            return None
        return [addresses.get(parameter, 0) for parameter in self._parameters]

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


class Program(BaseProgram):
    """A bucket's plan, bound to this rank's residuals and to what is shared.

    Attributes besides those of `BaseProgram`:
        pieces: the pieces of the bucket, in order.
        scratch_values: the most values of a share this rank adds up.
    """

    def __init__(
        self,
        plan: Plan,
        bucket: int,
        bound: Bound,
        memory: Memory,
        me: Identity,
    ) -> None:
        super().__init__(plan, bound, memory)
        self.pieces = [
            self._piece(index, piece, bucket, ITEM_BYTES[self.dtype], me)
            for index, piece in enumerate(plan.pieces)
        ]
        self.scratch_values = max((p.mine.layout.count for p in self.pieces if p.mine), default=0)

    def sample_of(self, piece: PieceProgram, step: int) -> slice | None:
        """Return the values of this rank's share whose error a step looks at: of a piece every few steps."""
        sample, rest = divmod(step, SAMPLE_EVERY)
        if rest or piece.mine is None or piece.index != sample % len(self.pieces) or self.stand_in:
            return None
        start = piece.mine.offset // ITEM_BYTES[self.dtype]
        return slice(start, start + min(piece.mine.layout.count, SAMPLE_VALUES))

    def _piece(self, index: int, piece: Piece, bucket: int, item_bytes: int, me: Identity) -> PieceProgram:
        shares = []
        for share in piece.shares:
            if share.count == 0:
                continue
            phase = FROM_OWNER if share.owner == me.rank else TO_OWNER
            header = Header(group=me.group, bucket=bucket, slice=index, sender=me.rank, phase=phase)
            seed = me.key_seed(bucket, index, share.owner)
            layout = self._layout_of(share)
            shares.append(ShareProgram(share, layout, item_bytes, self._residuals_of(share), header, seed))
        return PieceProgram(index, shares, me)


def _offsets(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return (rank, offset) of every size that is not 0, laid out one after another."""
    return [
        (rank, start) for rank, (start, size) in enumerate(zip(starts_of(sizes), sizes, strict=True)) if size
    ]
