"""The pipeline: three threads, through which the pieces of all buckets pass in order.

    encode   encodes this rank's part of every other owner's share and starts phase 1
    reduce   waits for phase 1, adds up this rank's own share, encodes the mean and starts phase 2
    decode   waits for phase 2, decodes the other owners' means into the bucket, completes the bucket's future

Each thread waits for its own phase alone, so that one piece is encoded while others are on the wire. Pieces
are bounded, and so is their number in each phase: memory does not grow with the model.

A thread never dies. What goes wrong with a frame is passed on as an aborted frame and raised by all ranks at
the end of backward. What goes wrong with a connection breaks the engine: from then on every bucket completes
at once, with that error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, cast

import torch

from thinwire.ddp.base_engine import BaseEngine
from thinwire.ddp.c10d_wire import Work
from thinwire.ddp.contribution import Contribution
from thinwire.ddp.frames import (
    Aborted,
    HostFrames,
    ReduceBuffers,
    Reduced,
    check_weights,
    failure_of,
    relative_error,
)
from thinwire.ddp.jobs import SLOTS, EndItem, Item, Job, PlainItem, SlotQueue
from thinwire.ddp.planner import Planner
from thinwire.ddp.program import PieceProgram, Program
from thinwire.ddp.report import Metrics, Span, plain_bytes
from thinwire.ddp.step import Failure
from thinwire.ddp.verify import Verifier
from thinwire.ddp.wire import Wire
from thinwire.errors import Error, InvalidArgument

_JOIN_SECONDS = 5.0


class Engine(BaseEngine):
    """The three threads of one HookState. Holds no reference to it."""

    def __init__(
        self,
        wire: Wire,
        planner: Planner[Program],
        verifier: Verifier,
        metrics: Metrics,
    ) -> None:
        super().__init__(planner, verifier, metrics)
        self._wire = wire
        self._abort: Failure | None = None
        self._scratch = torch.empty(0, dtype=torch.float32)
        self._free = [SlotQueue(SLOTS) for _ in range(2)]
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(3)]
        self._threads = [
            threading.Thread(target=_serve, args=(queues, handle), name=f"thinwire-{name}", daemon=True)
            for name, handle, queues in [
                ("encode", self._encode, self._queues[0:2]),
                ("reduce", self._reduce, self._queues[1:3]),
                ("decode", self._decode, self._queues[2:3]),
            ]
        ]
        for thread in self._threads:
            thread.start()

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers, without residuals."""
        return self._scratch.nbytes + sum(queue.nbytes for queue in self._free)

    def submit(self, job: Job) -> None:
        """Take a bucket. Returns at once; the job's future completes when all is done, whatever happens."""
        self._queues[0].put(job)

    def close(self) -> None:
        """Finish what was submitted, end threads and connections. Waits a few seconds at most."""
        if not self.usable:
            return
        self._closed = True
        self._queues[0].put(None)
        waits = threading.current_thread() not in self._threads
        end = time.monotonic() + _JOIN_SECONDS
        if waits:
            for thread in self._threads:
                thread.join(max(0.0, end - time.monotonic()))
        self._wire.close()
        if waits:
            self._wire.wait_closed(max(0.0, end - time.monotonic()))

    # The encode thread.

    def _encode(self, job: Job) -> None:
        try:
            if self.broken is None:
                self._start(job)
        except Exception as error:
            self._break(error)
        self._queues[1].put(EndItem(job))

    def _start(self, job: Job) -> None:
        if not self._plan(job):
            return
        program = cast(Program | None, job.program)
        if program is None:
            self._start_plain(job)
            return
        with self.metrics.factorise:
            values = program.begin(job.buffer, job.step)
        held = frozenset(program.zeros(values))
        frames = HostFrames(Contribution(program, job.step, values.data_ptr(), held))
        job.left = len(program.pieces)
        for piece in program.pieces:
            if self.broken is not None:
                return
            self._send(job, frames, piece)

    def _send(self, job: Job, frames: HostFrames, piece: PieceProgram) -> None:
        sent, received = sum(piece.send_sizes), sum(piece.recv_sizes)
        slot = self._free[0].get(sent, received)
        failure, self._abort = self._abort, None
        with self.metrics.encode:
            frames.encode_outgoing(piece, slot.send.data_ptr(), failure)
        self.metrics.phase_1.sent_bytes += sent
        work = self._wire.all_to_all(
            slot.recv[:received], slot.send[:sent], piece.recv_sizes, piece.send_sizes
        )
        self._queues[1].put(Item(job, frames, piece, slot, work, failure))

    def _start_plain(self, job: Job) -> None:
        job.buffer.mul_(job.step.weight)
        weights = torch.tensor([job.step.weight], dtype=torch.float64)
        self.metrics.phase_1.sent_bytes += plain_bytes(job.buffer.nbytes, self._wire.size)
        work = self._wire.all_reduce(job.buffer)
        self._queues[1].put(PlainItem(job, work, weights, self._wire.all_reduce(weights)))

    # The reduce thread.

    def _reduce(self, item: Item | PlainItem | EndItem) -> None:
        if not isinstance(item, Item):
            self._queues[2].put(item)
            return
        try:
            if self.broken is None:
                self._reduce_piece(item)
        except Exception as error:
            self._break(error)
        self._free[0].put(item.slot)

    def _reduce_piece(self, item: Item) -> None:
        piece, ranks = item.piece, self._wire.size
        item.work.wait()
        self._arrived(self.metrics.phase_1, item.work)
        slot = self._free[1].get(piece.slot, ranks * piece.slot)
        reduced = Reduced()
        if piece.mine is not None:
            scratch = self._scratch_of(item.frames.contribution.program.scratch_values)
            buffers = ReduceBuffers(item.slot.recv.data_ptr(), scratch.data_ptr(), slot.send.data_ptr())
            with self.metrics.reduce:
                reduced = item.frames.reduce_own(piece, piece.mine, buffers, item.failure)
            if reduced.failure is None:
                self._sample_error(item)
        self.metrics.phase_2.sent_bytes += (ranks - 1) * piece.slot
        work = self._wire.all_gather(slot.recv[: ranks * piece.slot], slot.send[: piece.slot])
        self._queues[2].put(Item(item.job, item.frames, piece, slot, work, *reduced))

    def _scratch_of(self, values: int) -> torch.Tensor:
        if self._scratch.numel() < values:
            self._scratch = torch.empty(values, dtype=torch.float32)
        return self._scratch

    def _sample_error(self, item: Item) -> None:
        part = item.frames.contribution.program.sample_of(item.piece, item.job.step.number)
        if part is not None:
            sums = self._scratch[: part.stop - part.start]
            self.metrics.add_error(*relative_error(sums, item.job.buffer[part]))

    # The decode thread.

    def _decode(self, item: Item | PlainItem | EndItem) -> None:
        if isinstance(item, EndItem):
            self._finish(item.job)
            return
        try:
            if self.broken is None:
                self._decode_piece(item) if isinstance(item, Item) else self._end_plain(item)
        except Exception as error:
            self._break(error)
        if isinstance(item, Item):
            self._free[1].put(item.slot)

    def _decode_piece(self, item: Item) -> None:
        job, piece, frames = item.job, item.piece, item.slot.recv.data_ptr()
        item.work.wait()
        self._arrived(self.metrics.phase_2, item.work)
        job.step.nonfinite |= item.nonfinite
        if item.failure is not None:
            job.step.fail(item.failure.error(), job.bucket, piece.index, self._wire.rank)
        with self.metrics.decode:
            for share in piece.others:
                try:
                    job.step.nonfinite |= item.frames.decode_share(
                        piece, share, frames + share.owner * piece.slot
                    )
                except (Error, Aborted) as error:
                    failure = failure_of(error)
                    job.step.fail(failure.error(), job.bucket, piece.index, share.owner)
                    if isinstance(error, Error):
                        if item.frames.contribution.program.is_learnt_from:
                            raise  # the others learn from this mean, and this rank could not follow them
                        # Only this rank knows; the others hear of it from its next frames.
                        self._abort = failure
        job.left -= 1

    def _end_plain(self, item: PlainItem) -> None:
        job = item.job
        item.work.wait()
        item.weights_work.wait()
        self._arrived(self.metrics.phase_1, item.work)
        try:
            check_weights(float(item.weights))
        except InvalidArgument as error:
            job.step.fail(error, job.bucket)
        if not bool(torch.isfinite(job.buffer).all()):
            job.step.nonfinite = True
        job.left = 0

    # All of them.

    def _arrived(self, phase: Span, work: Work) -> None:
        phase.until_now(work.started)
        self.metrics.wire.until_now(work.started)

    def _disconnect(self) -> None:
        self._wire.close()


def _serve(queues: Sequence[SimpleQueue[Any]], handle: Callable[[Any], None]) -> None:
    """Hand items to `handle` until None comes, which goes on to the next thread's queue."""
    while (item := queues[0].get()) is not None:
        handle(item)
        del item  # a bucket must not be kept alive until the next one comes
    for following in queues[1:]:
        following.put(None)
