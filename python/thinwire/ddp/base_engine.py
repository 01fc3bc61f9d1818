"""What the engines of both transports have in common: how they begin, finish a bucket and break."""

from __future__ import annotations

import copy
import os
from typing import Any

from thinwire.ddp.jobs import Job
from thinwire.ddp.planner import Planner
from thinwire.ddp.report import Metrics
from thinwire.errors import Error


class BaseEngine:
    """Takes buckets and completes their futures, whatever happens.

    Attributes:
        broken: the error that ended all communication, or None.
        metrics: what was done, for the report.
    """

    def __init__(self, planner: Planner[Any], metrics: Metrics) -> None:
        self.broken: Error | None = None
        self.metrics = metrics
        self._planner = planner
        self._pid = os.getpid()
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether jobs can be submitted: not closed, and not the child of a fork."""
        return not self._closed and os.getpid() == self._pid

    @property
    def programs_made(self) -> int:
        """How many programs were made: more at a rebuild of buckets, and at the end of the warm-up."""
        return self._planner.made

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all buffers, without residuals."""
        raise NotImplementedError

    def submit(self, job: Job) -> None:
        """Take a bucket. Returns at once; the job's future completes when all is done, whatever happens."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was submitted, end threads and connections. Waits a few seconds at most."""
        raise NotImplementedError

    def _finish(self, job: Job) -> None:
        """Learn from a bucket, and give it back to DDP."""
        if job.left or not self._learn(job):
            job.step.fail_for_good(copy.copy(self.broken or Error("the bucket was not finished")))
        if job.is_last:
            job.step.complete = True
        job.future.set_result(job.buffer)

    def _learn(self, job: Job) -> bool:
        """Learn from a bucket that all ranks have decoded alike. Say whether this rank could."""
        if job.program is None or job.step.nonfinite:
            return True
        try:
            with self.metrics.decode:
                job.program.learn(job.buffer.data_ptr())
        except Exception as error:
            self._break(error)
            return False
        return True

    def _break(self, error: Exception) -> None:
        """End all communication, the first time. That releases the ranks that wait for this one."""
        if self.broken is None:
            self.broken = error if isinstance(error, Error) else Error(f"{type(error).__name__}: {error}")
            self._disconnect()

    def _disconnect(self) -> None:
        raise NotImplementedError
