"""What happens to one piece of a bucket: frames are encoded, added up, decoded. No threads, no sockets.

With `w` a rank's weight, `g` its gradient and `R` its residual, every rank but the owner sends `w g + R` and
keeps what the codec lost. The owner starts from its own `w g + R`, unquantised, adds the others' decoded
frames in the order of ranks, encodes the sum once and keeps what that lost. All ranks, the owner too, decode
the same bytes into the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire._core import FLAG_ABORTED, FLAG_NONFINITE, Header
from thinwire.ddp.program import FP32, FROM_OWNER, TO_OWNER, PieceProgram, Program, ShareProgram
from thinwire.ddp.step import Failure, Step
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


@dataclass(frozen=True)
class Contribution:
    """A bucket in one step: where its values are, and which parameters have no gradient here (by number)."""

    program: Program
    step: Step
    base: int
    held: frozenset[int]

    def encode_outgoing(self, piece: PieceProgram, send: int, abort: Failure | None) -> None:
        """Write the frames to the other owners at address `send`.

        With `abort`, or where encoding fails, the frames say why instead.
        """
        for share, offset in piece.outgoing:
            self._stamp(share.header)
            try:
                if abort is not None:
                    raise Aborted(abort)
                self._encode_share(share, send + offset)
            except Exception as error:
                write_abort(share, failure_of(error), send + offset)

    def reduce_own(
        self, piece: PieceProgram, share: ShareProgram, buffers: ReduceBuffers, abort: Failure | None
    ) -> Failure | None:
        """Add up this rank's share, write the mean's frame, and decode it into the bucket.

        Where a frame is bad or aborted, this rank's frame says so instead, and the reason is returned.
        """
        self._stamp(share.header)
        try:
            if abort is not None:
                raise Aborted(abort)
            self._add_up(piece, share, buffers.recv, buffers.scratch)
            self._encode_mean(share, buffers.scratch, buffers.send)
            self.decode_share(piece, share, buffers.send)
        except Exception as error:
            failure = failure_of(error)
            write_abort(share, failure, buffers.send)
            return failure
        return None

    def decode_share(self, piece: PieceProgram, share: ShareProgram, frame: int) -> None:
        """Decode the mean of a share into the bucket. Raises Aborted, CorruptFrame or InvalidArgument."""
        out = self.base + share.offset
        header = self._decode(piece, share, Expected(share.owner, FROM_OWNER), frame, out, self.program.dtype)
        if header.flags & FLAG_NONFINITE:
            self.step.nonfinite = True

    def _encode_share(self, share: ShareProgram, out: int) -> None:
        step = self.step
        _core.encode_frame(
            share.layout,
            share.header,
            self.base + share.offset,
            self.program.dtype,
            step.weight,
            share.residuals[step.source],
            share.residuals[step.target],
            self.program.residual_dtype,
            share.held(self.held),
            share.key(step.number),
            out,
            share.slot,
        )

    def _add_up(self, piece: PieceProgram, share: ShareProgram, recv: int, scratch: int) -> None:
        step, x = self.step, self.base + share.offset
        before, held = share.residuals[step.source], share.held(self.held)
        _core.fold(
            share.layout,
            x,
            self.program.dtype,
            step.weight,
            before,
            self.program.residual_dtype,
            held,
            scratch,
        )
        total = step.weight
        for rank, offset in piece.incoming:
            expected = Expected(rank, TO_OWNER)
            total += self._decode(
                piece, share, expected, recv + offset, scratch, FP32, accumulate=True
            ).weight
        check_weights(total)

    def _encode_mean(self, share: ShareProgram, scratch: int, out: int) -> None:
        step, held = self.step, share.held(self.held)
        before = share.residuals[step.source]
        # Only a held segment's residual is not in the sum yet; what the codec loses now comes on top of it.
        kept = [r if h else 0 for r, h in zip(before, held, strict=True)] if before and held else None
        _core.encode_frame(
            share.layout,
            share.header,
            scratch,
            FP32,
            1.0,
            kept,
            share.residuals[step.target],
            self.program.residual_dtype,
            held,
            share.key(step.number),
            out,
            share.slot,
        )

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
        wanted = (mine.group, self.step.number, mine.bucket, mine.slice, expected.sender, expected.phase)
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
        return f"step {self.step.number}, bucket {piece.shares[0].header.bucket}, piece {piece.index}"

    def _stamp(self, header: Header) -> None:
        header.step = self.step.number
        header.weight = self.step.weight


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
