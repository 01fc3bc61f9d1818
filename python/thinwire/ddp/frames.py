"""What happens to one piece of a bucket in host memory: frames are encoded, added up, decoded.

Which values, and what becomes of residuals, is in `contribution`. No threads, no sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from thinwire import _core
from thinwire._core import FLAG_ABORTED, FLAG_NONFINITE, Header
from thinwire.ddp.contribution import Contribution, Values
from thinwire.ddp.program import FP32, FROM_OWNER, TO_OWNER, PieceProgram, ShareProgram
from thinwire.ddp.step import Failure
from thinwire.errors import CorruptFrame, Error, InvalidArgument

WEIGHT_TOLERANCE = 1e-6
"""How far from 1 the ranks' weights may add up."""


class Aborted(Exception):
    """A peer sent an aborted frame; `failure` is what it said."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True)
class Expected:
    """Who must have sent a frame, and in which phase."""

    sender: int
    phase: int


@dataclass(frozen=True)
class ReduceBuffers:
    """Addresses: the frames that came in, room for a share in fp32, and where the mean's frame goes."""

    recv: int
    scratch: int
    send: int


class Reduced(NamedTuple):
    """What became of a share: why it could not be added up, or whether its mean holds NaN or infinity."""

    failure: Failure | None = None
    nonfinite: bool = False


@dataclass(frozen=True)
class HostFrames:
    """The frames of a bucket that lies in host memory, with every check that a frame allows."""

    contribution: Contribution

    def encode_outgoing(self, piece: PieceProgram, send: int, abort: Failure | None) -> None:
        """Write the frames to the other owners at address `send`.

        With `abort`, or where encoding fails, the frames say why instead.
        """
        for share, offset in piece.outgoing:
            self._stamp(share.header)
            try:
                if abort is not None:
                    raise Aborted(abort)
                self._encode(share, self.contribution.own(share), send + offset)
            except Exception as error:
                write_abort(share, failure_of(error), send + offset)

    def reduce_own(
        self, piece: PieceProgram, share: ShareProgram, buffers: ReduceBuffers, abort: Failure | None
    ) -> Reduced:
        """Add up this rank's share, write the mean's frame, and decode it into the bucket.

        Where a frame is bad or aborted, this rank's frame says so instead.
        """
        self._stamp(share.header)
        try:
            if abort is not None:
                raise Aborted(abort)
            self._add_up(piece, share, buffers.recv, buffers.scratch)
            self._encode(share, self.contribution.sum(share, buffers.scratch), buffers.send)
            return Reduced(nonfinite=self.decode_share(piece, share, buffers.send))
        except Exception as error:
            failure = failure_of(error)
            write_abort(share, failure, buffers.send)
            return Reduced(failure)

    def decode_share(self, piece: PieceProgram, share: ShareProgram, frame: int) -> bool:
        """Decode the mean of a share into the bucket, and say whether it holds NaN or infinity.

        Raises Aborted, CorruptFrame or InvalidArgument.
        """
        mine, expected = self.contribution, Expected(share.owner, FROM_OWNER)
        header = self._decode(piece, share, expected, frame, mine.place(share), mine.program.dtype)
        return bool(header.flags & FLAG_NONFINITE)

    def _encode(self, share: ShareProgram, values: Values, out: int) -> None:
        key = share.key(self.contribution.step.number)
        _core.encode_frame(share.layout, share.header, *values, key, out, share.slot)

    def _add_up(self, piece: PieceProgram, share: ShareProgram, recv: int, scratch: int) -> None:
        x, dtype, weight, before, _, residual_dtype, held = self.contribution.own(share)
        _core.fold(share.layout, x, dtype, weight, before, residual_dtype, held, scratch)
        total = weight
        for rank, offset in piece.incoming:
            expected = Expected(rank, TO_OWNER)
            total += self._decode(
                piece, share, expected, recv + offset, scratch, FP32, accumulate=True
            ).weight
        check_weights(total)

    def _decode(
        self,
        piece: PieceProgram,
        share: ShareProgram,
        expected: Expected,
        frame: int,
        out: int,
        dtype: int,
        accumulate: bool = False,
    ) -> Header:
        """Decode a frame that must be this one and no other."""
        mine = share.header
        try:
            header = _core.decode_frame(share.layout, frame, share.slot, out, dtype, accumulate)
        except Error as error:
            raise type(error)(f"rank {expected.sender}'s frame of {self._place(piece)}: {error}") from error
        found = (header.group, header.step, header.bucket, header.slice, header.sender, header.phase)
        step = self.contribution.step.number
        wanted = (mine.group, step, mine.bucket, mine.slice, expected.sender, expected.phase)
        if found != wanted:
            names = ("group", "step", "bucket", "slice", "sender", "phase")
            wrong = ", ".join(
                f"{n} {f}, not {w}" for n, f, w in zip(names, found, wanted, strict=True) if f != w
            )
            raise CorruptFrame(f"rank {expected.sender}'s frame of {self._place(piece)} has {wrong}")
        if header.flags & FLAG_ABORTED:
            raise Aborted(Failure(*_core.abort_reason(frame, share.slot)))
        return header

    def _place(self, piece: PieceProgram) -> str:
        step = self.contribution.step.number
        return f"step {step}, bucket {piece.shares[0].header.bucket}, piece {piece.index}"

    def _stamp(self, header: Header) -> None:
        header.step = self.contribution.step.number
        header.weight = self.contribution.step.weight


def check_weights(total: float) -> None:
    """Raise InvalidArgument unless the weights of all ranks add up to 1."""
    if not abs(total - 1) <= WEIGHT_TOLERANCE:
        raise InvalidArgument(f"the weights of all ranks must add up to 1, not {total:.9g} (set_weight)")


def failure_of(error: Exception) -> Failure:
    """Return what an aborted frame shall say: what a peer said, unchanged, or what happened here."""
    return error.failure if isinstance(error, Aborted) else Failure.of(error)


def write_abort(share: ShareProgram, failure: Failure, out: int) -> None:
    """Write an aborted frame in the place of a share's real one."""
    _core.write_abort(share.header, failure.number, failure.reason, out, share.slot)


def relative_error(sums: torch.Tensor, decoded: torch.Tensor) -> tuple[float, float]:
    """Return the squared norms of what one encoding of a sum lost, and of the sum."""
    wanted = sums.double()
    return float((wanted - decoded.double()).square().sum()), float(wanted.square().sum())
