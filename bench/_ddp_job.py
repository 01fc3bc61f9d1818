"""One training run of one method on this rank: the same for the demo, for `bench ddp` and under torchrun."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from thinwire.bench._ddp_methods import wrap
from thinwire.bench._ddp_plan import Job
from thinwire.bench._tasks import task
from thinwire.cli import _netns, _sockets

Emit = Callable[[dict[str, Any]], None]


class _Order(IntEnum):
    """What rank 0, by its clock, has all ranks do after a step."""

    GO_ON = 0
    EVALUATE = 1
    END = 2


@dataclass
class _Curve:
    """After each step: seconds since the start, the mean training loss, and bytes this rank has sent ever.

    The bytes have one more entry: what was sent before the first step. The held-out losses have their own
    times.
    """

    elapsed_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    held_out_s: list[float] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)

    def step_times(self) -> list[float]:
        return [after - before for before, after in pairwise([0.0, *self.elapsed_s])]


class _Clock:
    """Seconds since it was made, without the pauses."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._started += time.perf_counter() - before


class _Training:
    """Model, optimizer and data of one run."""

    def __init__(self, job: Job, rank: int, world_size: int) -> None:
        self.job, self.rank, self.world_size = job, rank, world_size
        self.task = task(job.model)
        # Its own group: the few bytes that ranks exchange about a step must not queue among DDP's buckets.
        self.control = dist.new_group(backend="gloo", timeout=timedelta(seconds=job.timeout_s))
        torch.manual_seed(job.seed)
        self.module = self.task.model()
        before = _sockets.connection_ids()
        self.model, self.report = wrap(job, self.module)
        if job.link_kind == "pacing":
            _sockets.pace_connections(job.rate_bits, before)
        self.optimizer = _OPTIMIZERS[job.optimizer](self.module.parameters(), self.task.rates[job.optimizer])
        self.schedule = LambdaLR(self.optimizer, lambda step: _share_of_rate(job, step))
        self.generator = torch.Generator().manual_seed(job.seed)

    def step(self, order: _Order) -> tuple[float, _Order]:
        """Train one step; the mean loss over the ranks, and rank 0's order.

        The exchange of both runs beside the backward pass, so it costs no time of its own.
        """
        self.optimizer.zero_grad()
        batch = self.task.batch(self.generator, self.rank, self.world_size)
        loss = self.task.loss(self.model, batch)
        news = torch.stack([loss.detach(), torch.tensor(float(order) if self.rank == 0 else 0.0)])
        exchange = dist.all_reduce(news, group=self.control, async_op=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        exchange.wait()
        return float(news[0]) / self.world_size, _Order(int(news[1]))

    def held_out_loss(self) -> float:
        """The loss on what no step trains on, of which each rank takes its share."""
        share = self.task.held_out_loss(self.module, self.rank, self.world_size)
        return statistics.fmean(self.gather(share.item()))

    def gather(self, mine: Any) -> list[Any]:
        """`mine` of every rank, in rank order."""
        everyone: list[Any] = [None] * self.world_size
        dist.all_gather_object(everyone, mine, group=self.control)
        return everyone


def _sgd(parameters: Iterable[Tensor], rate: float) -> Optimizer:
    return torch.optim.SGD(parameters, rate, momentum=0.9, fused=True)


def _adamw(parameters: Iterable[Tensor], rate: float) -> Optimizer:
    return torch.optim.AdamW(parameters, rate, fused=True)


_OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}
_LAST_SHARE_OF_RATE = 0.1


def _share_of_rate(job: Job, step: int) -> float:
    """The learning rate at a step, as a share of the first one."""
    if not job.decay or not job.steps:
        return 1.0
    progress = min(1.0, step / (job.warmup + job.steps))
    return _LAST_SHARE_OF_RATE + (1 - _LAST_SHARE_OF_RATE) * (1 + math.cos(math.pi * progress)) / 2


def run_job(job: Job, store: Store, rank: int, world_size: int, emit: Emit) -> dict[str, Any]:
    """Train as `job` says; the outcome (`_outcome` lists it), equal on all ranks. Collective.

    Calls `emit` after every step with {"event": "step", "phase", "step", "loss"}, and with "elapsed_s" in the
    phase `run`, which follows `warm-up`.
    """
    dist.init_process_group(
        "gloo",
        store=PrefixStore(f"job{job.number}", store),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=job.timeout_s),
    )
    try:
        training = _Training(job, rank, world_size)
        _warm_up(training, emit)
        return _outcome(training, _train(training, emit))
    finally:
        dist.destroy_process_group()


def _warm_up(training: _Training, emit: Emit) -> None:
    for step in range(1, training.job.warmup + 1):
        loss, _ = training.step(_Order.GO_ON)
        emit({"event": "step", "phase": "warm-up", "step": step, "loss": loss})


def _train(training: _Training, emit: Emit) -> _Curve:
    """Run the job's steps, or as many as begin within its budget by rank 0's clock."""
    job, curve = training.job, _Curve()
    if job.evaluate_every_s is not None:
        _evaluate(training, curve, 0.0)
    curve.sent_bytes.append(_bytes_sent(job))
    clock, latest = _Clock(), 0.0
    while True:
        loss, order = training.step(_order(job, curve, clock.now() + latest))
        elapsed = clock.now()
        latest = elapsed - (curve.elapsed_s[-1] if curve.elapsed_s else 0.0)
        curve.elapsed_s.append(elapsed)
        curve.losses.append(loss)
        curve.sent_bytes.append(_bytes_sent(job))
        step = len(curve.losses)
        emit({"event": "step", "phase": "run", "step": step, "elapsed_s": elapsed, "loss": loss})
        if order is not _Order.GO_ON and job.evaluate_every_s is not None:
            with clock.paused():
                _evaluate(training, curve, elapsed)
        if order is _Order.END:
            return curve


def _order(job: Job, curve: _Curve, ends_s: float) -> _Order:
    """What comes after the step that begins now and will end at about `ends_s`."""
    if len(curve.losses) + 1 == job.steps or (job.budget_s is not None and ends_s >= job.budget_s):
        return _Order.END
    if job.evaluate_every_s is not None and ends_s >= curve.held_out_s[-1] + job.evaluate_every_s:
        return _Order.EVALUATE
    return _Order.GO_ON


def _evaluate(training: _Training, curve: _Curve, elapsed_s: float) -> None:
    curve.held_out_s.append(elapsed_s)
    curve.held_out_losses.append(training.held_out_loss())


def _bytes_sent(job: Job) -> int:
    if job.link_kind == "namespaces":
        return _sockets.nic_bytes_sent(_netns.NIC)
    return _sockets.payload_sent()


def _outcome(training: _Training, curve: _Curve) -> dict[str, Any]:
    steps = len(curve.losses)
    middle = steps // 2  # the first half may have the int4 steps with which coarse codecs begin
    mine = (_digest(training.module), _bytes_per_step(curve, middle), _bytes_per_step(curve, 0))
    digests, late_bytes, mean_bytes = zip(*training.gather(mine), strict=True)
    return {
        "step_s": curve.step_times(),
        "elapsed_s": curve.elapsed_s,
        "losses": curve.losses,
        "held_out_s": curve.held_out_s,
        "held_out_losses": curve.held_out_losses,
        "accuracy_percent": training.task.accuracy(training.module),
        "parameters": sum(parameter.numel() for parameter in training.module.parameters()),
        "wire_bytes_per_step": statistics.fmean(late_bytes),
        "wire_bytes_per_step_from_start": statistics.fmean(mean_bytes),
        "replicas_equal": len(set(digests)) == 1,
        "hook": training.report(),
    }


def _bytes_per_step(curve: _Curve, first: int) -> float:
    """The bytes this rank has sent a step, from the step `first` to the last."""
    last = len(curve.losses)
    return (curve.sent_bytes[last] - curve.sent_bytes[first]) / (last - first)


def _digest(module: nn.Module) -> str:
    """A hash of all parameters' bytes."""
    state = hashlib.sha256()
    for parameter in module.parameters():
        state.update(parameter.detach().numpy().tobytes())
    return state.hexdigest()
