"""What happens to one piece of a bucket on a CUDA device: as `frames`, but only launched.

A frame's payload has the bits of the CPU's. Of its header it has the first word alone, which counts what was
not finite. The rest would say what is known: all ranks made the same plan, NCCL keeps the order and the
bytes, and steps and weights are compared by `outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass

from thinwire import _core
from thinwire.ddp.base_program import ITEM_BYTES
from thinwire.ddp.contribution import Contribution, Values
from thinwire.ddp.device_program import DeviceProgram
from thinwire.ddp.frames import ReduceBuffers
from thinwire.ddp.program import FP32, PieceProgram, ShareProgram
from thinwire.ddp.stage import Stage


@dataclass(frozen=True)
class DeviceFrames:
    """The frames of a bucket that lies on a device. The contribution holds nothing: the device finds out."""

    program: DeviceProgram
    contribution: Contribution

    def look_for_zeros(self, stage: Stage) -> None:
        """Find the parameters without a gradient, whose residual is held."""
        program = self.program
        if not program.watched:
            return
        item = ITEM_BYTES[program.dtype]
        stretches = [(self.contribution.base + first * item, n) for _, first, n in program.watched]
        stage.run(program.found.zero_)
        stage.launch(_core.cuda_launch_find_nonzero, stretches, program.dtype, program.found.data_ptr())

    def encode_outgoing(self, stage: Stage, piece: PieceProgram, send: int) -> None:
        """Write the frames to the other owners at address `send`."""
        for share, offset in piece.outgoing:
            self._encode(stage, share, self.contribution.own(share), send + offset)

    def reduce_own(
        self, stage: Stage, piece: PieceProgram, share: ShareProgram, buffers: ReduceBuffers
    ) -> None:
        """Add up this rank's share, write the mean's frame, and decode it into the bucket."""
        own = self.contribution.own(share)
        stage.launch(
            _core.cuda_launch_fold,
            share.layout,
            own.x,
            own.dtype,
            own.scale,
            own.residual_in,
            own.residual_dtype,
            self.program.used(share),
            buffers.scratch,
        )
        frames = [buffers.recv + offset for _, offset in piece.incoming]
        if frames:
            stage.launch(_core.cuda_launch_decode, share.layout, frames, buffers.scratch, FP32, True)
        total = own._replace(x=buffers.scratch, dtype=FP32, scale=1.0)
        self._encode(stage, share, total, buffers.send, residual_in_x=True)
        self.decode_share(stage, share, buffers.send)

    def decode_share(self, stage: Stage, share: ShareProgram, frame: int) -> None:
        """Decode the mean of a share into the bucket."""
        out = self.contribution.place(share)
        stage.launch(_core.cuda_launch_decode, share.layout, [frame], out, self.program.dtype, False)

    def _encode(
        self, stage: Stage, share: ShareProgram, values: Values, frame: int, residual_in_x: bool = False
    ) -> None:
        number = self.contribution.step.number
        stage.launch(
            _core.cuda_launch_encode,
            share.layout,
            *values,
            share.key(number),
            number,
            frame,
            used=self.program.used(share),
            residual_in_x=residual_in_x,
        )
