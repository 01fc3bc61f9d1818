"""The step times of `bench ddp --equal-steps --wall-clock`: what turns equal steps into seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from thinwire.bench import _report
from thinwire.bench._ddp_plan import label
from thinwire.bench._ddp_runner import LocalRunner, Session
from thinwire.cli._shaped import Link, format_rate

_WARMUP_STEPS, _STEPS = 12, 12
"""PowerSGD begins with its step 10, and what is timed is the method itself."""


class Case(NamedTuple):
    """What has a step time of its own. The optimizer is taken to make no difference."""

    model: str
    ranks: int
    method: str


def case_of(entry: dict[str, Any]) -> Case:
    """The case of a run, or of a step time, as the file has it."""
    return Case(entry["model"], entry["ranks"], entry["method"])


def measure(
    link: Link, cases: Iterable[Case], keep: Callable[[dict[str, Any]], None], failures: list[str]
) -> None:
    """Time the steps of each case over `link`, and `keep` every result; what fails joins `failures`."""
    todo = list(cases)
    with LocalRunner(link) as runner:
        session = Session(runner, len(todo))
        for case in todo:
            runner.use(case.ranks)
            outcome = session.run(
                case.method,
                f"{case.model}, {case.ranks} ranks, step time at {format_rate(link.rate_bits)}",
                model=case.model,
                steps=_STEPS,
                warmup=_WARMUP_STEPS,
                codec_warmup=0,
            )
            if outcome is not None:
                figures = {"step_s": _report.spread(outcome["step_s"]).as_dict()}
                place = {"rate_bits": link.rate_bits, "kind": link.kind}
                keep({**case._asdict(), **place, **figures})
        failures += session.failures


def format_table(times: Sequence[dict[str, Any]]) -> str:
    """A row a method, a column for each model and number of ranks: the median step."""
    columns = list(dict.fromkeys((entry["model"], entry["ranks"]) for entry in times))
    found = {case_of(entry): f"{1e3 * entry['step_s']['median']:.0f} ms" for entry in times}
    rows = [
        [label(method), *(found.get(Case(model, ranks, method), "-") for model, ranks in columns)]
        for method in dict.fromkeys(entry["method"] for entry in times)
    ]
    return _report.table(["a step", *(f"{model}, {ranks} ranks" for model, ranks in columns)], rows)
