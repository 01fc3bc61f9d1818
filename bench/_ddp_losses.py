"""The runs of `bench ddp --equal-steps`: equally many steps of every method on the same batches."""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from thinwire.bench import _report
from thinwire.bench._ddp_clock import Case, case_of
from thinwire.bench._ddp_gaps import bits_per_value, curve, final_loss, summarise
from thinwire.bench._ddp_plan import GLOBAL_BATCH, MODELS, OPTIMIZERS, PLAIN, check_method
from thinwire.bench._ddp_runner import LocalRunner, Session
from thinwire.cli._shaped import choose_link

METHODS = (
    PLAIN,
    "torch/fp16",
    "thinwire/int4",
    *(
        f"thinwire/{codec}{basis}"
        for codec in ("int2", "ternary", "sign1", "topk:density=0.03,values=sign")
        for basis in ("", ";basis=0")
    ),
    *(f"torch/powersgd{rank}:start=10" for rank in (1, 4, 8)),
)
QUICK_METHODS = (
    PLAIN,
    "thinwire/int4",
    "thinwire/sign1",
    "thinwire/sign1;basis=0",
    "torch/powersgd4:start=10",
)
MODE = "equal steps"


@dataclass(frozen=True)
class Run:
    """One training run. Its place among all is the order of the fields."""

    seed: int
    ranks: int
    model: str
    optimizer: str
    method: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells runs apart: a plain run serves every number of ranks, for it is one curve."""
        ranks = None if self.method == PLAIN else self.ranks
        return self.seed, ranks, self.model, self.optimizer, self.method


@dataclass(frozen=True)
class Matrix:
    """All runs of the benchmark: every combination."""

    models: Sequence[str] = MODELS
    ranks: Sequence[int] = (2, 4)
    optimizers: Sequence[str] = OPTIMIZERS
    methods: Sequence[str] = METHODS
    seeds: int = 3
    steps: int = 2000

    def check(self) -> None:
        """Raise ValueError for what cannot be run, before hours are spent on the rest."""
        for model in self.models:
            if model not in MODELS:
                raise ValueError(f"there is no model '{model}'; there are {', '.join(MODELS)}")
        for optimizer in self.optimizers:
            if optimizer not in OPTIMIZERS:
                raise ValueError(f"there is no optimizer '{optimizer}'; there are {', '.join(OPTIMIZERS)}")
        for ranks in self.ranks:
            if ranks < 2 or GLOBAL_BATCH % ranks:
                raise ValueError(
                    f"{ranks} ranks cannot share a global batch of {GLOBAL_BATCH}; take 2, 4 or 8"
                )
        for method in self.methods:
            check_method(method)
        if self.steps < 1 or self.seeds < 1:
            raise ValueError("--steps and --seeds must be 1 or more")
        if "conv" in self.models and importlib.util.find_spec("sklearn") is None:
            raise ValueError(
                "the model 'conv' reads the digits of scikit-learn, which is not installed:"
                " pip install scikit-learn, or leave 'conv' out of --models"
            )

    def cases(self) -> list[Case]:
        """What has a step time of its own: every method on every number of ranks."""
        methods = dict.fromkeys([PLAIN, *self.methods])
        return [Case(*point) for point in product(self.models, self.ranks, methods)]

    def runs(self) -> list[Run]:
        """Plain DDP first in each setting; a seed is complete before the next one begins."""
        methods = dict.fromkeys([PLAIN, *self.methods])
        axes = product(range(self.seeds), self.ranks, self.models, self.optimizers, methods)
        unique: dict[tuple[Any, ...], Run] = {}
        for run in (Run(*point) for point in axes):
            unique.setdefault(run.key, run)
        return list(unique.values())


class Results:
    """The runs that are done, in a file if there is one, which always has all of them."""

    def __init__(self, path: Path | None, facts: dict[str, Any], steps: int) -> None:
        """Take over what the file has. ValueError where that is of something else."""
        self._path, self._facts, self._steps = path, facts, steps
        self.runs: list[dict[str, Any]] = []
        self.step_times: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text())
            mode, steps = content["mode"], content["steps"]
            self.runs, self.step_times = list(content["runs"]), list(content.get("step_times", []))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is not of `bench ddp --equal-steps`; name another file") from None
        if (mode, steps) != (MODE, self._steps):
            raise ValueError(
                f"{path} has runs of {steps} steps, these have {self._steps}; name another file, or --steps"
            )

    def __contains__(self, run: Run) -> bool:
        return run.key in {_run_of(entry).key for entry in self.runs}

    def add(self, run: Run, outcome: dict[str, Any], seconds: float) -> None:
        """Keep what counts of an outcome (see `_ddp_job`), and write the file."""
        parameters = outcome["parameters"]
        self.runs.append(
            {
                **asdict(run),
                "loss": final_loss(outcome["losses"]),
                "curve": curve(outcome["losses"]),
                "held_out_loss": outcome["held_out_losses"][-1],
                "accuracy_percent": outcome["accuracy_percent"],
                "parameters": parameters,
                "bits": bits_per_value(outcome["wire_bytes_per_step"], parameters, run.ranks),
                "bits_from_start": bits_per_value(
                    outcome["wire_bytes_per_step_from_start"], parameters, run.ranks
                ),
                "replicas_equal": outcome["replicas_equal"],
                "seconds": seconds,
                "cpu": _report.cpu_model(),  # the rest of the matrix may have been run elsewhere
            }
        )
        self.write()

    def has_step_time(self, case: Case, rate_bits: int) -> bool:
        """Whether the step of this case has been timed at this rate."""
        return any(case_of(entry) == case and entry["rate_bits"] == rate_bits for entry in self.step_times)

    def add_step_time(self, entry: dict[str, Any]) -> None:
        """Keep what `_ddp_clock` has measured, and write the file."""
        self.step_times.append(entry)
        self.write()

    def write(self) -> None:
        """Write the file, if there is one."""
        if self._path is not None:
            _report.write_json(self._path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        summary = {"methods": summarise(self.runs), "runs": self.runs, "step_times": self.step_times}
        return {**self._facts, "mode": MODE, "steps": self._steps, **summary}


def measure(matrix: Matrix, results: Results, failures: list[str]) -> None:
    """Make the runs that the results lack; what fails joins `failures`."""
    todo = [run for run in matrix.runs() if run not in results]
    if any(run.model == "finetune" for run in todo):
        _prepare_finetune()
    with LocalRunner(choose_link(0, unshaped=True)) as runner:
        session = Session(runner, len(todo))
        for number, run in enumerate(todo):
            runner.use(run.ranks)
            began = time.monotonic()
            outcome = session.run(
                run.method,
                f"{run.model}, {run.optimizer}, {run.ranks} ranks, seed {run.seed}"
                f"{format_left(left_s(todo[number:], results.runs))}",
                model=run.model,
                optimizer=run.optimizer,
                decay=True,
                steps=matrix.steps,
                warmup=0,
                seed=run.seed,
                evaluate_every_s=math.inf,
            )
            if outcome is not None:
                results.add(run, outcome, time.monotonic() - began)
        failures += session.failures


def left_s(todo: Sequence[Run], done: Sequence[dict[str, Any]]) -> float | None:
    """The seconds that runs will take, by those of the same model on as many ranks; None before the first."""
    if not done:
        return None
    kinds: dict[tuple[str, int], list[float]] = {}
    for entry in done:
        kinds.setdefault((entry["model"], entry["ranks"]), []).append(entry["seconds"])
    every = statistics.fmean(entry["seconds"] for entry in done)
    means = {kind: statistics.fmean(seconds) for kind, seconds in kinds.items()}
    return sum(means.get((run.model, run.ranks), every) for run in todo)


def format_left(seconds: float | None) -> str:
    """`, 3 h 20 min left`; nothing where nothing is known."""
    if seconds is None:
        return ""
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f", {hours} h {minutes} min left" if hours else f", {minutes} min left"


def _run_of(entry: dict[str, Any]) -> Run:
    return Run(*(entry[name] for name in Run.__dataclass_fields__))


def _prepare_finetune() -> None:
    """Have the weights made here, once, and not by all ranks at the same time."""
    print("weights for 'finetune': from the cache, or trained now for half a minute", file=sys.stderr)
    from thinwire.bench._finetune_model import trained_model

    trained_model()
