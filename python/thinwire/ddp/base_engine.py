"""What the engines of both transports have in common: how they begin, finish a bucket and break."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from typing import Any

import torch

from thinwire.ddp.base_program import DTYPE_CODES
from thinwire.ddp.jobs import Job
from thinwire.ddp.on_device import mark, on_stream
from thinwire.ddp.planner import Planner
from thinwire.ddp.report import SAMPLE_EVERY, Metrics
from thinwire.ddp.stand_in import StandIn
from thinwire.ddp.step import Step
from thinwire.ddp.verify import Verifier
from thinwire.errors import Error, InvalidArgument, Timeout, TransportError


class BaseEngine:
    """Takes buckets and completes their futures, whatever happens.

    Attributes:
        broken: the error that ended all communication, or None.
        metrics: what was done, for the report.
        device_types: of the gradients that it reduces.
    """

    device_types: tuple[str, ...] = ("cpu",)

    def __init__(self, planner: Planner[Any], verifier: Verifier, metrics: Metrics) -> None:
        self.broken: Error | None = None
        self.metrics = metrics
        self._planner, self._verifier = planner, verifier
        self._pid = os.getpid()
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether jobs can be submitted: not closed, and not the child of a fork."""
        return not self._closed and os.getpid() == self._pid

    @property
    def programs_made(self) -> int:
        """How often a bucket was planned: again at a rebuild of buckets, and at the end of the warm-up."""
        return self._planner.made

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers, without residuals."""
        raise NotImplementedError

    @property
    def ways(self) -> dict[str, str]:
        """How frames travel to other ranks, by rank; empty where it is for torch to know."""
        return {}

    def submit(self, job: Job) -> None:
        """Take a bucket. Returns at once; the job's future completes when all is done, whatever happens."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was submitted, end threads and connections. Waits a few seconds at most."""
        raise NotImplementedError

    def _plan(self, job: Job) -> bool:
        """Find the program of a bucket; none for a dtype that is not compressed. Collective where it is new.

        Returns False where all ranks refuse the bucket alike. Raises Timeout and TransportError.
        """
        try:
            if job.bucket == 0:
                self._verifier.check(job.step)
            if job.buffer.dtype in DTYPE_CODES:
                job.program = self._planner.program(job.bucket, job.buffer, job.parameters, job.step.number)
            else:
                check_averaged(job.buffer)
        except (Timeout, TransportError):
            raise
        except Error as error:  # raised on all ranks alike: none of them starts the bucket
            job.step.fail(error, job.bucket)
            job.left = 0
            return False
        return True

    def _finish(self, job: Job) -> None:
        """Complete a bucket, learn from it, and give it back to DDP."""
        try:
            with on_stream(job.stream):
                if job.left or not self._complete(job):
                    job.step.fail_for_good(copy.copy(self.broken or Error("the bucket was not finished")))
                job.step.complete |= job.is_last
                mark(job.buffer)  # fails where the future's own event would, when it cannot complete any more
                job.future.set_result(job.buffer)
        except Exception as error:  # CUDA cannot even record an event any more
            self._break(error)
            job.step.complete |= job.is_last
            with suppress(Exception):  # it has completed
                job.future.set_exception(error)  # type: ignore[arg-type]

    def _complete(self, job: Job) -> bool:
        """Complete a bucket that all ranks have decoded alike. Say whether this rank could."""
        if job.program is None or job.step.has_failed(job.bucket):
            return True
        try:
            with self.metrics.decode:
                self._learn(job.program, job)
            self._sample_stand_in(job.program.stand_in, job.step)
        except Exception as error:
            self._break(error)
            return False
        return True

    def _learn(self, program: Any, job: Job) -> None:
        """Put the mean into the bucket, learn from it, and leave in it what the optimizer gets now."""
        program.end(job.buffer, job.step)

    def _sample_stand_in(self, stand_in: StandIn | None, step: Step) -> None:
        sample, rest = divmod(step.number, SAMPLE_EVERY)
        if stand_in is not None and not rest:
            self.metrics.add_error(*stand_in.error_of_one(sample, step))

    def _break(self, error: Exception) -> None:
        """End all communication, the first time. That releases the ranks that wait for this one."""
        if self.broken is None:
            self.broken = error if isinstance(error, Error) else Error(f"{type(error).__name__}: {error}")
            self._disconnect()

    def _disconnect(self) -> None:
        raise NotImplementedError


def check_averaged(buffer: torch.Tensor) -> None:
    """Raise InvalidArgument for gradients of a dtype that has no mean."""
    if not buffer.is_floating_point():
        raise InvalidArgument(f"gradients of dtype {buffer.dtype} cannot be averaged")
