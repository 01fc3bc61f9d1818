"""The hook over NCCL: the whole journey of a bucket is given to streams while DDP calls the hook.

No thread, and nothing that waits for the device: a bucket's future completes on the decode stage's stream.
What only the device knows of a step (whether it was finite, what other ranks told) is read when the next one
begins. By then the host has run ahead by an optimizer's step and a forward pass, so that the device has work
while the host waits for the end of the former step.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch

from thinwire.ddp.base_engine import BaseEngine
from thinwire.ddp.base_program import can_overflow
from thinwire.ddp.c10d_wire import C10dWire, Work
from thinwire.ddp.contribution import Contribution
from thinwire.ddp.device_frames import DeviceFrames
from thinwire.ddp.device_program import DeviceProgram
from thinwire.ddp.frames import ReduceBuffers
from thinwire.ddp.jobs import Job
from thinwire.ddp.on_device import standing_on
from thinwire.ddp.outcome import Outcome
from thinwire.ddp.pipeline import DeviceSlot, Pipeline, Place
from thinwire.ddp.planner import Planner
from thinwire.ddp.program import PieceProgram
from thinwire.ddp.report import Metrics, plain_bytes
from thinwire.ddp.step import Step
from thinwire.ddp.verify import Verifier
from thinwire.errors import Error

HEAD_BYTES = 8
"""Of a frame: what it counts as not finite."""


@dataclass(frozen=True)
class _Bucket:
    """A bucket in one step, and what it goes through."""

    job: Job
    program: DeviceProgram
    pipeline: Pipeline
    outcome: Outcome

    @cached_property
    def frames(self) -> DeviceFrames:
        """What is done with its frames."""
        base = self.job.buffer.data_ptr()
        return DeviceFrames(self.program, Contribution(self.program, self.job.step, base, frozenset()))


@dataclass
class _Sent:
    """A piece in phase 1; without a work there is nobody to send to."""

    piece: PieceProgram
    slot: DeviceSlot
    work: Work | None


class StreamEngine(BaseEngine):
    """Gives buckets on one CUDA device to its streams. Holds no reference to the HookState."""

    device_types = ("cuda",)

    def __init__(
        self,
        wire: C10dWire,
        planner: Planner[DeviceProgram],
        verifier: Verifier,
        metrics: Metrics,
        place: Place,
    ) -> None:
        super().__init__(planner, verifier, metrics)
        self._wire, self._place = wire, place
        self._outcome: Outcome | None = None

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers, without residuals."""
        return self._place.nbytes

    def submit(self, job: Job) -> None:
        """Give a bucket to the streams. The job's future completes behind all of it, whatever happens."""
        with standing_on(job.buffer.device):
            try:
                if self.broken is None:
                    self._start(job)
            except Exception as error:
                self._break(error)
            self._finish(job)
            if job.is_last:
                self._end_step(job.step)

    def close(self) -> None:
        """Refuse what is submitted from now on. What was goes on; the group is the caller's."""
        self._closed = True

    def _start(self, job: Job) -> None:
        pipeline = self._place.of(job.buffer.device)
        job.stream = pipeline.decode.stream
        outcome = self._outcome_of(job.step, pipeline)
        if not self._plan(job):
            return
        program = cast(DeviceProgram | None, job.program)
        pipeline.encode.follow_caller()  # the bucket, and what a new program has made
        if program is None:
            self._reduce_plainly(job, pipeline, outcome)
        else:
            self._reduce(_Bucket(job, program, pipeline, outcome))
        job.left = 0

    def _outcome_of(self, step: Step, pipeline: Pipeline) -> Outcome:
        if self._outcome is None:
            self._outcome = Outcome(pipeline.device, self._wire.size)
            pipeline.encode.follow_caller()  # which has made its memory
        if self._outcome.step is not step:
            self._outcome.begin(pipeline, self._wire, step)
        return self._outcome

    def _reduce_plainly(self, job: Job, pipeline: Pipeline, outcome: Outcome) -> None:
        pipeline.encode.run(job.buffer.mul_, job.step.weight)
        self.metrics.phase_1.sent_bytes += plain_bytes(job.buffer.nbytes, self._wire.size)
        pipeline.decode.follow(pipeline.encode.start(self._wire.all_reduce, job.buffer))
        pipeline.decode.run(outcome.count_values, job.buffer)

    def _reduce(self, bucket: _Bucket) -> None:
        """Give the pieces to the stages, one ahead: the wire has work while a share is added up."""
        bucket.frames.look_for_zeros(bucket.pipeline.encode)
        ahead: _Sent | None = None
        for piece in bucket.program.pieces:
            sent = self._send(bucket, piece)
            if ahead is not None:
                self._deliver(bucket, ahead)
            ahead = sent
        if ahead is not None:
            self._deliver(bucket, ahead)

    def _send(self, bucket: _Bucket, piece: PieceProgram) -> _Sent:
        """Encode for the other owners, and start phase 1."""
        stage, sent, received = bucket.pipeline.encode, sum(piece.send_sizes), sum(piece.recv_sizes)
        slot = bucket.pipeline.to_owner.take(stage)
        bucket.frames.encode_outgoing(stage, piece, slot.send.data_ptr())
        self.metrics.phase_1.sent_bytes += sent
        work = None
        if piece.outgoing or piece.incoming:  # on all ranks, if there are several
            send, recv = slot.send[:sent], slot.recv[:received]
            work = stage.start(self._wire.all_to_all, recv, send, piece.recv_sizes, piece.send_sizes)
        return _Sent(piece, slot, work)

    def _deliver(self, bucket: _Bucket, sent: _Sent) -> None:
        """Add up this rank's share, send its mean to all ranks, decode theirs."""
        pipeline, piece, ranks = bucket.pipeline, sent.piece, self._wire.size
        stage = pipeline.add
        if sent.work is not None:
            stage.follow(sent.work)
        else:
            stage.wait(pipeline.encode.mark())
        slot = pipeline.from_owner.take(stage)
        if piece.mine is not None:
            places = (sent.slot.recv, pipeline.scratch, slot.send)
            buffers = ReduceBuffers(*(memory.data_ptr() for memory in places))
            bucket.frames.reduce_own(stage, piece, piece.mine, buffers)
            self._sample(bucket, piece)
        else:
            stage.run(slot.send[:HEAD_BYTES].zero_)  # nothing is not finite in a frame that is none
        sent.slot.free = stage.mark()
        self.metrics.phase_2.sent_bytes += (ranks - 1) * piece.slot
        frames = slot.recv[: ranks * piece.slot]
        pipeline.decode.follow(stage.start(self._wire.all_gather, frames, slot.send[: piece.slot]))
        self._decode(bucket, piece, frames)
        slot.free = pipeline.decode.mark()

    def _sample(self, bucket: _Bucket, piece: PieceProgram) -> None:
        part = bucket.program.sample_of(piece, bucket.job.step.number)
        if part is not None:
            sums = bucket.pipeline.scratch[: part.stop - part.start]
            bucket.pipeline.add.run(bucket.outcome.sample, sums, bucket.job.buffer[part])

    def _decode(self, bucket: _Bucket, piece: PieceProgram, frames: torch.Tensor) -> None:
        stage = bucket.pipeline.decode
        for share in piece.others:
            bucket.frames.decode_share(stage, share, frames.data_ptr() + share.owner * piece.slot)
        stage.run(bucket.outcome.count_frames, frames, self._wire.size)

    def _learn(self, program: DeviceProgram, job: Job) -> None:
        self._place.of(job.buffer.device).decode.run(self._learn_in_order, program, job)

    def _learn_in_order(self, program: DeviceProgram, job: Job) -> None:
        """Learn from a bucket, and hand over a part of it unless the step is not finite: then all of it."""
        if self._outcome is not None and can_overflow(job.buffer.dtype):
            self._outcome.count_values(job.buffer)
        if not program.spreads or self._outcome is None:
            program.end(job.buffer, job.step)
            return
        whole = job.buffer.clone()
        program.end(job.buffer, job.step)
        job.buffer.copy_(torch.where(self._outcome.nonfinite > 0, whole, job.buffer))

    def _end_step(self, step: Step) -> None:
        outcome = self._outcome
        if self.broken is not None or outcome is None:
            return
        try:
            outcome.end(self._place.of(outcome.device).decode)
            step.later = partial(self._settle, outcome, step)
        except Exception as error:
            self._break(error)
            step.fail_for_good(copy.copy(self.broken or Error(str(error))))

    def _settle(self, outcome: Outcome, step: Step) -> None:
        if self.broken is None:
            self.metrics.add_error(*outcome.settle(step))

    def _disconnect(self) -> None:
        """Leave the group alone: ranks that wait are for its owner, and for NCCL's watchdog."""
