"""The beginning and the end of a step, as DDP's calls of the hook tell them."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from thinwire.ddp.base_engine import BaseEngine
from thinwire.ddp.jobs import Job
from thinwire.ddp.memory import Memory
from thinwire.ddp.model import check_device
from thinwire.ddp.on_device import future_of, mark
from thinwire.ddp.report import Metrics, plain_bytes
from thinwire.ddp.step import Step
from thinwire.errors import Error, InvalidArgument


class Stepper:
    """Hands buckets to the engine, step by step, and keeps an error until it can be raised.

    A step begins with DDP's bucket 0 and is over when DDP has taken back its last bucket: calls are never
    counted, as DDP rebuilds its buckets after the first iteration.

    Attributes:
        number: the next step's number.
        weight: this rank's weight in the next step's sum.
        loss_scale: what the residuals are multiplied with.
        ddp: the DDP module this serves, if known.
    """

    def __init__(
        self,
        engine: BaseEngine | None,
        memory: Memory,
        metrics: Metrics,
        world_size: int,
        scaler: Any,
        strict: bool,
    ) -> None:
        self.number = 0
        self.weight = 1 / world_size
        self.loss_scale = 1.0
        self.ddp: weakref.ref[DistributedDataParallel] | None = None
        self._engine = engine
        self._memory = memory
        self._metrics = metrics
        self._world_size = world_size
        self._scaler = scaler
        self._strict = strict
        self._step: Step | None = None
        self._error: Error | None = None
        self._programs = 0
        self._is_to_commit = False
        self._served: set[torch.Tensor] = set()
        self._in_step: set[torch.Tensor] = set()  # of those, what the last step's buckets held
        self._left: set[torch.Tensor] = set()
        self._is_of_another_model = False
        self._devices: set[torch.device] = set()
        self._began = self._ended = self._last_end = 0.0

    def take(self, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        """Take a dist.GradBucket of this step; bucket 0 begins one. The future completes whatever happens."""
        if bucket.index() == 0 or self._step is None:
            self._step = self._begin()
        buffer = bucket.buffer()
        self._devices.add(buffer.device)
        future = future_of(buffer)
        job = Job(self._step, bucket.index(), bucket.is_last(), buffer, bucket.parameters(), future)
        self._in_step.update(job.parameters)
        refusal = self._refusal(job)
        if self._engine is not None and refusal is None:
            self._count(job.buffer.nbytes)
            job.ready = mark(buffer)
            self._engine.submit(job)
            return future
        if refusal is not None:
            job.step.fail(refusal, job.bucket)
        job.step.complete |= job.is_last
        future.set_result(job.buffer)
        return future

    def backward_ended(self) -> None:
        """Note the moment from which backward only waits."""
        self._ended = time.perf_counter()

    def end(self) -> None:
        """End the step when DDP has taken back all buckets. Raises its error, or an earlier one.

        A device may still be at work on it: then the next step settles it, unless NonFinite is to be raised.
        """
        self._measure()
        if self._strict or self._step is None or self._step.is_settled:
            self.settle()
        self.raise_pending()

    def settle(self) -> None:
        """Close the books of a complete step. What it wrote becomes current if all was well and finite.

        On a device it becomes so in the order of the current stream, which is training's between two steps:
        who may call on another one uses `close_books`, or `apart`.
        """
        self.close_books()
        if self._is_to_commit:
            self._memory.commit(self._in_step)
        self._is_to_commit = False

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Settle, and use what is kept in a `with` block, on any stream: devices are idle on either side."""
        self._synchronize()
        self.settle()
        try:
            yield
        finally:
            self._synchronize()

    def close_books(self) -> None:
        """Learn how a complete step ended, and count it."""
        step = self._step
        if step is None or not step.complete:
            return
        self._step = None
        step.conclude()
        error = step.error(self._strict)
        self._error = self._error or error
        self._is_to_commit = error is None and not step.nonfinite
        if not self._is_to_commit:
            self._memory.discard()
        self._metrics.steps += 1
        self._metrics.nonfinite_steps += step.nonfinite

    @property
    def has_pending_error(self) -> bool:
        """Whether an error waits to be raised."""
        return self._error is not None

    def raise_pending(self) -> None:
        """Raise the error that waits, if there is one, and forget it."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _begin(self) -> Step:
        self.settle()
        self._in_step.clear()
        if self._engine is not None and self._engine.programs_made != self._programs:
            self._programs = self._engine.programs_made
            self._metrics.reset()
            self._last_end = 0.0
        self._metrics.bucket_bytes = []
        self._began = time.perf_counter()
        self._follow_loss_scale()
        residuals = self._memory.residuals
        ddp = self.ddp() if self.ddp is not None else None
        is_uneven = ddp is not None and bool(ddp._join_config.enable)
        step = Step(self.number, self.weight, residuals.source, residuals.target, is_uneven)
        self.number += 1
        return step

    def _synchronize(self) -> None:
        for device in self._devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    def _follow_loss_scale(self) -> None:
        scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        if scale != self.loss_scale:
            self._memory.rescale(scale / self.loss_scale)
        self.loss_scale = scale

    def _refusal(self, job: Job) -> Error | None:
        """Return why this bucket cannot be reduced."""
        if self._engine is None:
            return None
        buffer = job.buffer
        self._recognise(job)
        if self._is_of_another_model:
            return InvalidArgument(
                "two DDP modules take turns with this HookState, which keeps the residuals and the number of"
                " steps of one; make one for each"
            )
        if not self._engine.usable:
            return InvalidArgument("this HookState was closed, or made before a fork; make a new one")
        if buffer.layout != torch.strided:
            return InvalidArgument("sparse gradients cannot be compressed: use sparse=False in embeddings")
        ddp = self.ddp() if self.ddp is not None else None
        if ddp is not None and ddp._join_config.enable and not ddp._divide_by_initial_world_size:
            return InvalidArgument(
                "join(divide_by_initial_world_size=False) does not work with a hook; use True"
            )
        try:
            check_device("a gradient", buffer, self._engine.device_types)
        except Error as error:
            return error
        return None

    def _recognise(self, job: Job) -> None:
        """Find out whether two models take turns: the first bucket of one has no parameter of the other's.

        One that never comes back was wrapped anew, with other parameters to train.
        """
        if job.bucket == 0:
            has_left = self._served.isdisjoint(job.parameters)
            self._is_of_another_model = has_left and not self._left.isdisjoint(job.parameters)
            if has_left and not self._is_of_another_model:
                self._left |= self._served
                self._served.clear()
        if not self._is_of_another_model:
            self._served.update(job.parameters)

    def _count(self, nbytes: int) -> None:
        self._metrics.bucket_bytes.append(nbytes)
        self._metrics.plain_bytes += plain_bytes(nbytes, self._world_size)

    def _measure(self) -> None:
        now = time.perf_counter()
        self._metrics.waiting_seconds += now - self._ended
        self._metrics.backward_seconds += self._ended - self._began
        self._metrics.step_seconds += now - (self._last_end or self._began)
        self._last_end = now
