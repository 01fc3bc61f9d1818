"""The arithmetic and the tables of `bench ddp --equal-steps`: how far each method ends from plain DDP."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from thinwire.bench import _report
from thinwire.bench._ddp_plan import PLAIN, label

CURVE_POINTS = 20
_LAST_SHARE = 10
"""A run's loss is a mean over the last of so many parts of its steps."""


def final_loss(losses: Sequence[float]) -> float:
    """The mean training loss of the last tenth of the steps, of one step at least."""
    return statistics.fmean(losses[-max(1, len(losses) // _LAST_SHARE) :])


def curve(losses: Sequence[float]) -> list[float]:
    """The mean losses of CURVE_POINTS stretches of a run, or of every step of a shorter one."""
    count = min(CURVE_POINTS, len(losses))
    marks = [len(losses) * mark // count for mark in range(count + 1)]
    return [statistics.fmean(losses[a:b]) for a, b in pairwise(marks)]


def bits_per_value(sent_bytes: float, parameters: int, ranks: int) -> float:
    """Bits a value a phase, of the bytes that a rank sends in a step.

    In each of two phases a rank sends (N-1)/N of the values, to the owners of shares and from them; the ring
    that Gloo sums by sends as much. Plain DDP has 32.
    """
    return 8 * sent_bytes / (2 * (ranks - 1) / ranks * parameters)


def gap_percent(loss: float, plain_loss: float) -> float:
    """By how much a loss is above plain DDP's."""
    return 100 * (loss / plain_loss - 1)


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each optimizer, model, number of ranks and method, in the order of the runs: over seeds.

    The gap is to the plain run of the same seed, on however many ranks that was: both saw the same global
    batches. It is None where there is no such run.
    """
    plain = {_setting(run): run for run in runs if run["method"] == PLAIN}
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["optimizer"], run["model"], run["ranks"], run["method"]), []).append(run)
    return [_entry(same, plain) for same in groups.values()]


def _setting(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["optimizer"], run["model"], run["seed"]


def _entry(same: Sequence[dict[str, Any]], plain: dict[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    def gaps(loss: str) -> dict[str, float] | None:
        compared = [(run, plain[_setting(run)]) for run in same if _setting(run) in plain]
        return _range([gap_percent(run[loss], reference[loss]) for run, reference in compared])

    first = same[0]
    accuracies = [run["accuracy_percent"] for run in same if run["accuracy_percent"] is not None]
    return {
        **{name: first[name] for name in ("optimizer", "model", "ranks", "method")},
        "label": label(first["method"]),
        "seeds": len(same),
        "loss": statistics.fmean(run["loss"] for run in same),
        "gap_percent": gaps("loss"),
        "held_out_gap_percent": gaps("held_out_loss"),
        "accuracy_percent": _range(accuracies),
        "bits": statistics.fmean(run["bits"] for run in same),
        "bits_from_start": statistics.fmean(run["bits_from_start"] for run in same),
        "replicas_equal": all(run["replicas_equal"] for run in same),
    }


def _range(samples: Sequence[float]) -> dict[str, float] | None:
    if not samples:
        return None
    return {"mean": statistics.fmean(samples), "low": min(samples), "high": max(samples)}


def format_tables(entries: Sequence[dict[str, Any]]) -> str:
    """For each optimizer a table of the gaps, one of the bits, and where there is one, of the accuracy."""
    tables = []
    for optimizer in dict.fromkeys(entry["optimizer"] for entry in entries):
        mine = [entry for entry in entries if entry["optimizer"] == optimizer]
        for title, cell in (
            ("gap to plain DDP in percent, mean (least .. greatest) over the seeds", _gap_cell),
            ("the same of the loss on held-out data at the end", _held_out_cell),
            ("bits a value a phase: steady / over the whole run", _bits_cell),
        ):
            tables.append(f"{optimizer}: {title}\n\n{_grid(mine, cell)}")
        if accurate := [entry for entry in mine if entry["accuracy_percent"]]:
            title = "test accuracy in percent, mean (least .. greatest) over the seeds"
            tables.append(f"{optimizer}: {title}\n\n{_grid(accurate, _accuracy_cell)}")
    return "\n\n".join(tables)


def format_cpus(runs: Sequence[dict[str, Any]]) -> str:
    """On which CPUs the runs were made: `188 runs on Intel(R) Xeon(R) Processor, 12 runs on AMD EPYC`."""
    return ", ".join(f"{count} runs on {cpu}" for cpu, count in Counter(run["cpu"] for run in runs).items())


def _grid(entries: Sequence[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> str:
    """A row a method, a column for each model and number of ranks; plain DDP has one run for all of these."""
    compared = [entry for entry in entries if entry["method"] != PLAIN] or entries
    models = list(dict.fromkeys(entry["model"] for entry in entries))
    columns = sorted(
        {(entry["model"], entry["ranks"]) for entry in compared},
        key=lambda column: (models.index(column[0]), column[1]),
    )
    plain = {entry["model"]: cell(entry) for entry in entries if entry["method"] == PLAIN}
    found = {(entry["method"], entry["model"], entry["ranks"]): cell(entry) for entry in entries}
    found |= {(PLAIN, model, ranks): plain.get(model, "-") for model, ranks in columns}
    methods = dict.fromkeys(entry["method"] for entry in entries)
    rows = [[label(method), *(found.get((method, *column), "-") for column in columns)] for method in methods]
    return _report.table(["method", *(f"{model}, {ranks} ranks" for model, ranks in columns)], rows)


def _format_range(values: dict[str, float], form: str) -> str:
    """The mean, and behind it the extremes unless there is but one value."""
    mean, low, high = (form.format(values[name]) for name in ("mean", "low", "high"))
    return mean if values["low"] == values["high"] else f"{mean} ({low} .. {high})"


def _gap_cell(entry: dict[str, Any]) -> str:
    if not entry["replicas_equal"]:
        return "replicas DIFFER"
    if entry["method"] == PLAIN:
        return f"loss {entry['loss']:.4f}"
    gap = entry["gap_percent"]
    return _format_range(gap, "{:+.2f}") if gap else "no plain run"


def _held_out_cell(entry: dict[str, Any]) -> str:
    gap = entry["held_out_gap_percent"]
    return "" if entry["method"] == PLAIN else _format_range(gap, "{:+.2f}") if gap else "no plain run"


def _bits_cell(entry: dict[str, Any]) -> str:
    return f"{entry['bits']:.2f} / {entry['bits_from_start']:.2f}"


def _accuracy_cell(entry: dict[str, Any]) -> str:
    return _format_range(entry["accuracy_percent"], "{:.1f}")
