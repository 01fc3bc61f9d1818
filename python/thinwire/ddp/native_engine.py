"""The hook over native links: the progress thread of `thinwire.Communicator` does the work.

Two threads pass buckets to it and back. One makes the plan of a bucket that is new, which the ranks agree on,
and starts the operation; the other waits for operations in the order of buckets, and completes their futures.
Encoding, sending, adding and decoding overlap slice by slice in native code. A bucket on a CUDA device is
encoded and decoded there: see `on_device`.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

import torch

from thinwire import _core
from thinwire.ddp.base_engine import BaseEngine, check_averaged
from thinwire.ddp.base_program import DTYPE_CODES
from thinwire.ddp.frames import check_weights
from thinwire.ddp.in_flight import InFlight
from thinwire.ddp.jobs import Job
from thinwire.ddp.native_program import NativeProgram
from thinwire.ddp.native_wire import NativeWire
from thinwire.ddp.on_device import Queues, after, mark, on_stream, stay_on
from thinwire.ddp.planner import Planner
from thinwire.ddp.report import SAMPLE_EVERY, Metrics
from thinwire.ddp.verify import Verifier
from thinwire.errors import CudaError, Error, InvalidArgument, Timeout, TransportError, error_of_number

NO_SAMPLE = 0xFFFFFFFF
_JOIN_SECONDS = 5.0
_WAIT_SECONDS = 3600.0
_MOST_IN_FLIGHT = 1 << 29
"""Bytes of buckets that this rank works on at a time. A rank that is late keeps in memory what comes early,
less than this of all others together; a communicator takes a gigabyte at most."""


@dataclass
class _Started:
    """A bucket on its way; without an operation, one that is done or failed already.

    `failure` and `nonfinite` are what was found of it. They count for the step when the bucket is finished:
    in the order of buckets, as on the other ranks.
    """

    job: Job
    operation: _core.Operation | None = None
    failure: Error | None = None
    nonfinite: bool = False
    began: float = field(default_factory=time.perf_counter)


class NativeEngine(BaseEngine):
    """The threads of one HookState over the native transport. Holds no reference to it."""

    device_types = ("cpu", "cuda")

    def __init__(
        self, wire: NativeWire, planner: Planner[NativeProgram], verifier: Verifier, metrics: Metrics
    ) -> None:
        super().__init__(planner, verifier, metrics)
        self._wire = wire
        self._queues = Queues()
        self._in_flight = InFlight(_MOST_IN_FLIGHT)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._started: SimpleQueue[_Started | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=serve, name=f"thinwire-{name}", daemon=True)
            for name, serve in (("start", self._serve_jobs), ("finish", self._serve_started))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers, without residuals."""
        return int(self._wire.communicator.stats()["buffer_bytes"]) if self.usable else 0

    @property
    def ways(self) -> dict[str, str]:
        """How frames travel to other ranks, by rank: the link, and what became of CUDA IPC on it."""
        links = self._wire.communicator.stats()["links"] if self.usable else []
        return {str(link["peer"]): _way(link["kind"], link["cuda_ipc"]) for link in links}

    def submit(self, job: Job) -> None:
        """Take a bucket. Returns at once; the job's future completes when all is done, whatever happens."""
        self._jobs.put(job)

    def close(self) -> None:
        """Finish what was submitted, end threads and connections. Waits a few seconds at most."""
        if not self.usable:
            return
        self._closed = True
        self._jobs.put(None)
        end = time.monotonic() + _JOIN_SECONDS
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join(max(0.0, end - time.monotonic()))
        self._wire.close()

    # The start thread.

    def _serve_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._in_flight.enter(job.buffer.nbytes)
            started = _Started(job)
            try:
                if self.broken is None:
                    self._start(started)
            except (CudaError, Timeout, TransportError) as error:
                self._break(error)
            except Error as error:  # raised on all ranks alike: none of them starts the bucket
                started.failure = error
                job.left = 0
            except Exception as error:
                self._break(error)
            self._started.put(started)
            del job, started  # a bucket must not be kept alive until the next one comes
        self._started.put(None)

    def _start(self, started: _Started) -> None:
        job = started.job
        step, buffer = job.step, job.buffer
        if job.ready is not None:
            stay_on(buffer.device)
        if job.bucket == 0 and self._verifier.is_due(step):
            with after(job.ready, buffer.device):
                self._verifier.check(step)
        if buffer.dtype not in DTYPE_CODES:
            with after(job.ready, buffer.device):
                self._reduce_plainly(started)
            return
        program = job.program = self._program(job)
        with self.metrics.factorise:
            values = self._begin(program, job)
        held, where = b"", None
        if job.ready is None:
            held = program.flags(program.zeros(values))
        else:
            queue = self._queues.native(buffer.device)
            where = _core.OnDevice(queue, job.ready.cuda_event, program.watched)
            job.stream = self._queues.stream(buffer.device)
        sample, rest = divmod(step.number, SAMPLE_EVERY)
        started.operation = self._wire.communicator.run_plan(
            program.native,
            step.number,
            job.bucket,
            values.data_ptr(),
            step.weight,
            (step.source, step.target),
            held,
            NO_SAMPLE if rest or program.stand_in or not program.slices else sample % program.slices,
            where,
        )

    def _program(self, job: Job) -> NativeProgram:
        made = self._planner.made
        program: NativeProgram = self._planner.program(
            job.bucket, job.buffer, job.parameters, job.step.number
        )
        if job.ready is not None and self._planner.made != made:
            # What begins with zeros, or was loaded, must be there before the engine's stream reads it.
            torch.cuda.current_stream(job.buffer.device).synchronize()
        return program

    def _begin(self, program: NativeProgram, job: Job) -> torch.Tensor:
        """Return what is reduced. What stands in for a bucket on a device has a `ready` of its own."""
        if job.ready is None or program.stand_in is None:
            return program.begin(job.buffer, job.step)
        stream = self._queues.aside(job.buffer.device)
        stream.wait_event(job.ready)
        with on_stream(stream):
            values = program.begin(job.buffer, job.step)
            job.ready = mark(values)
        return values

    def _reduce_plainly(self, started: _Started) -> None:
        """Add up a bucket whose dtype is not compressed, in the order of ranks."""
        job = started.job
        check_averaged(job.buffer)
        buffer = job.buffer.cpu()  # itself, where it is there already
        buffer.mul_(job.step.weight)
        communicator = self._wire.communicator
        weight = torch.tensor([job.step.weight], dtype=torch.float64)
        weights = communicator.all_gather(weight).wait()
        parts = communicator.all_gather(buffer).wait()
        self.metrics.phase_1.sent_bytes += (self._wire.size - 1) * job.buffer.nbytes
        buffer.zero_()
        for part in parts:
            buffer.add_(part)
        if buffer is not job.buffer:
            job.buffer.copy_(buffer)
        try:
            check_weights(float(weights.sum()))
        except InvalidArgument as error:
            started.failure = error
        started.nonfinite = not bool(torch.isfinite(buffer).all())
        job.left = 0

    # The finish thread.

    def _serve_started(self) -> None:
        while (started := self._started.get()) is not None:
            try:
                if started.job.ready is not None:
                    stay_on(started.job.buffer.device)
                if started.failure is not None:
                    started.job.step.fail(started.failure, started.job.bucket)
                started.job.step.nonfinite |= started.nonfinite
                if started.operation is not None:
                    self._finish_operation(started.job, started.operation, started.began)
            except Exception as error:
                self._break(error)
            self._finish(started.job)
            self._in_flight.leave(started.job.buffer.nbytes)
            del started

    def _finish_operation(self, job: Job, operation: _core.Operation, began: float) -> None:
        while not operation.wait(_WAIT_SECONDS):
            pass
        try:
            operation.check()
        except InvalidArgument as error:  # ranks disagreed on this bucket; the links are intact
            job.step.fail(error, job.bucket)
        job.left = 0
        for piece, owner, number, reason in operation.slice_failures:
            job.step.fail(error_of_number(number)(reason), job.bucket, piece, owner)
        job.step.nonfinite |= operation.nonfinite
        self._count(operation, began)

    def _count(self, operation: _core.Operation, began: float) -> None:
        metrics, seconds = self.metrics, operation.stage_seconds
        metrics.encode.seconds += seconds["encode"]
        metrics.reduce.seconds += seconds["add"] + seconds["result"]
        metrics.decode.seconds += seconds["decode"]
        up, down = operation.sent_bytes
        metrics.phase_1.sent_bytes += up
        metrics.phase_2.sent_bytes += down
        for span in (metrics.phase_1, metrics.phase_2, metrics.wire):
            span.until_now(began)
        metrics.add_error(*operation.sampled_error)

    def _disconnect(self) -> None:
        with suppress(Error):  # it was closed meanwhile
            self._wire.communicator.abort(str(self.broken))


def _way(link: str, cuda_ipc: str) -> str:
    return f"{link}, cuda ipc {cuda_ipc}" if cuda_ipc else link
