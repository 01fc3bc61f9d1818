"""Runs jobs on ranks: those of this machine, started here, or the one that torchrun made of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Protocol

from thinwire.bench import _report
from thinwire.bench._ddp_plan import Job, label
from thinwire.cli._progress import Progress
from thinwire.cli._shaped import Link, RankFailed, Ranks

_RANK_COMMAND = [sys.executable, "-m", "thinwire.bench._ddp_rank"]
_RANK_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
_READY_LIMIT_S = 120.0
_SILENCE_MARGIN_S = 30.0

OnStep = Callable[[dict[str, Any]], None]


class JobFailed(RuntimeError):
    """A job did not come to its end; the text says what a rank said."""


class Runner(Protocol):
    """Runs one job after the other on the same ranks."""

    link: Link
    world_size: int
    is_first: bool
    """Whether this process prints and draws: under torchrun only rank 0 does."""

    def run(self, job: Job, on_step: OnStep) -> dict[str, Any]:
        """The job's outcome (see `_ddp_job`); JobFailed when it has none. The runner stays usable."""

    def close(self) -> None:
        """End what the runner started."""


class LocalRunner:
    """Ranks on this machine. After a failed job they are started anew for the next one."""

    def __init__(self, link: Link, ranks: int = 2) -> None:
        self.link = link
        self.world_size = ranks
        self.is_first = True
        self._ranks: Ranks | None = None

    def use(self, ranks: int) -> None:
        """Run the next jobs on so many ranks."""
        if ranks != self.world_size:
            self.close()
            self.world_size = ranks

    def start(self) -> None:
        """Start the ranks unless they run; RankFailed when they do not come up."""
        if self._ranks is not None:
            return
        self._ranks = Ranks(_RANK_COMMAND, self.world_size, self.link, _RANK_ENVIRONMENT)
        for _ in range(self.world_size):
            self._ranks.receive(_READY_LIMIT_S)

    def run(self, job: Job, on_step: OnStep) -> dict[str, Any]:
        """See Runner."""
        try:
            self.start()
            return self._exchange(job, on_step)
        except (RankFailed, JobFailed) as failure:
            self.close()
            raise JobFailed(str(failure)) from None

    def _exchange(self, job: Job, on_step: OnStep) -> dict[str, Any]:
        assert self._ranks is not None
        self._ranks.send(asdict(job))
        outcomes: dict[int, dict[str, Any]] = {}
        while len(outcomes) < self.world_size:
            rank, message = self._ranks.receive(job.timeout_s + _SILENCE_MARGIN_S)
            event = message.pop("event")
            if event == "failed":
                raise JobFailed(f"rank {rank}: {message['error']}")
            if event == "done":
                outcomes[rank] = message
            else:
                on_step(message)
        return outcomes[0]

    def close(self) -> None:
        """See Runner."""
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Session:
    """Runs jobs on one link, counts them for the progress line, keeps the failures."""

    def __init__(self, runner: LocalRunner, total: int) -> None:
        self.runner = runner
        self.failures: list[str] = []
        self._total = total
        self._number = 0
        self._progress = Progress()

    def run(self, method: str, what: str, **options: Any) -> dict[str, Any] | None:
        """The outcome of one job, None where it failed."""
        self._number += 1
        title = f"[{self._number}/{self._total}] {label(method)}, {what}:"
        self._progress.show(title, "starting")
        link = self.runner.link
        job = Job(self._number, method, link.kind, link.rate_bits, **options)
        try:
            outcome = self.runner.run(job, lambda step: self._progress.show(title, f"step {step['step']}"))
        except JobFailed as failure:
            self.failures.append(f"{title} {failure}")
            self._progress.say(f"{title} failed")
            return None
        step_ms = 1e3 * _report.spread(outcome["step_s"]).median
        self._progress.say(f"{title} {step_ms:.0f} ms a step, training loss {outcome['losses'][-1]:.3f}")
        return outcome


class TorchrunRunner:
    """This process as one of torchrun's ranks; every rank must run the same jobs in the same order."""

    def __init__(self) -> None:
        import torch
        from torch.distributed.rendezvous import rendezvous

        torch.set_num_threads(1)
        self.link = Link("network", 0)
        self._store, self._rank, self.world_size = next(rendezvous("env://"))
        self.is_first = self._rank == 0

    def run(self, job: Job, on_step: OnStep) -> dict[str, Any]:
        """See Runner."""
        from thinwire.bench._ddp_job import run_job

        try:
            return run_job(job, self._store, self._rank, self.world_size, on_step)
        except Exception as error:
            raise JobFailed(f"rank {self._rank}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing to end: the processes are torchrun's."""


def under_torchrun() -> bool:
    """Whether a launcher has already made this process a rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
