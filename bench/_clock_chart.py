"""The picture of `bench ddp --equal-steps --wall-clock`: training loss against time. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from thinwire.bench._chart_style import INK, dress, entitle, method_colours
from thinwire.bench._ddp_clock import Case, case_of
from thinwire.bench._ddp_plan import PLAIN, POWERSGD, label
from thinwire.cli._shaped import format_rate

_LEFT_OUT_POINTS = 1
"""The first stretches of a curve, whose high loss would flatten the rest."""
_DASHES = {"1": (0, (1, 1.5)), "4": (0, (3, 1.5)), "8": (0, (6, 1.5))}
"""Of PowerSGD, by rank."""


def draw(
    runs: Sequence[dict[str, Any]], times: Sequence[dict[str, Any]], steps: int, optimizer: str, path: Path
) -> None:
    """Write the picture: a column for each model, a row for each number of ranks that has step times.

    A run of the first seed is drawn with its own losses and the median step time of its method.
    """
    step_s = {case_of(entry): entry["step_s"]["median"] for entry in times}
    models = list(dict.fromkeys(entry["model"] for entry in times))
    counts = sorted({entry["ranks"] for entry in times})
    first_seed = min(run["seed"] for run in runs)
    shown = [run for run in runs if run["optimizer"] == optimizer and run["seed"] == first_seed]
    colours = method_colours([run["method"] for run in shown])
    figure, panels = pyplot.subplots(
        len(counts),
        len(models),
        figsize=(3.8 * len(models) + 3.2, 3.6 * len(counts) + 0.7),
        squeeze=False,
        layout="constrained",
    )
    try:
        with matplotlib.rc_context({"text.color": INK}):
            for line, ranks in zip(panels, counts, strict=True):
                for axes, model in zip(line, models, strict=True):
                    mine = _on(ranks, [run for run in shown if run["model"] == model])
                    _draw_panel(
                        axes, [(run, step_s[case]) for case, run in mine if case in step_s], steps, colours
                    )
                    axes.set_title(f"{model}, {ranks} ranks", loc="left", fontsize=10.5)
                line[0].set_ylabel("training loss")
            for axes in panels[-1]:
                axes.set_xlabel("seconds")
            handles, names = _legend(panels)
            figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)
            rate = format_rate(times[0]["rate_bits"])
            entitle(figure, f"{steps} steps of {optimizer} at {rate} a NIC: loss against time")
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


def _on(ranks: int, runs: Sequence[dict[str, Any]]) -> list[tuple[Case, dict[str, Any]]]:
    """The runs on so many ranks; plain DDP has one for all numbers of them."""
    return [
        (case_of({**run, "ranks": ranks}), run)
        for run in runs
        if run["ranks"] == ranks or run["method"] == PLAIN
    ]


def _draw_panel(
    axes: Any, runs: Sequence[tuple[dict[str, Any], float]], steps: int, colours: dict[str, str]
) -> None:
    """Each run with the seconds of its step."""
    for run, step_s in runs:
        method, curve = run["method"], run["curve"]
        powersgd = POWERSGD.search(method)
        stretch = steps * step_s / len(curve)
        axes.plot(
            [(i + 0.5) * stretch for i in range(_LEFT_OUT_POINTS, len(curve))],
            curve[_LEFT_OUT_POINTS:],
            color=colours[method],
            linestyle=_DASHES.get(powersgd[1], "--")
            if powersgd
            else "-"
            if ";basis=0" not in method
            else "--",
            linewidth=2.2 if method == PLAIN else 1.5,
            label=label(method),
        )
    axes.set_xscale("log")
    dress(axes)


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    """Every method once."""
    found: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return list(found.values()), list(found)
