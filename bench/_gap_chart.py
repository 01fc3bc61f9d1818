"""The picture of `bench ddp --equal-steps`: bits a value against the gap to plain DDP. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.lines import Line2D

from thinwire.bench._chart_style import GREY, INK, dress, entitle, method_colours
from thinwire.bench._ddp_plan import PLAIN, POWERSGD, label

_MARKERS = {2: "o", 4: "s", 8: "^", 16: "D"}
"""By number of ranks."""
_LINEAR_PERCENT = 1.0
"""Gaps up to this are drawn on a linear scale, larger ones on a logarithmic one."""
_TICKS = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100)
_LEAST_RANGE = (-0.5, 1.0)


def draw(entries: Sequence[dict[str, Any]], steps: int, path: Path) -> None:
    """Write the picture of `_ddp_gaps.summarise`'s entries: a column for each model, a row an optimizer."""
    shown = [entry for entry in entries if entry["gap_percent"] and entry["method"] != PLAIN]
    models = list(dict.fromkeys(entry["model"] for entry in entries))
    optimizers = list(dict.fromkeys(entry["optimizer"] for entry in entries))
    styles = _styles(shown)
    figure, panels = pyplot.subplots(
        len(optimizers),
        len(models),
        figsize=(3.6 * len(models) + 3.2, 3.6 * len(optimizers) + 0.7),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    try:
        with matplotlib.rc_context({"text.color": INK}):
            _set_scales(panels[0][0], shown)
            for line, optimizer in zip(panels, optimizers, strict=True):
                for axes, model in zip(line, models, strict=True):
                    mine = [e for e in shown if (e["optimizer"], e["model"]) == (optimizer, model)]
                    _draw_panel(axes, mine, styles)
                    axes.set_title(f"{model}, {optimizer}", loc="left", fontsize=10.5)
                line[0].set_ylabel("gap to plain DDP, %")
            for axes in panels[-1]:
                axes.set_xlabel("bits a value a phase")
            _add_legend(figure, shown, styles)
            entitle(figure, f"{steps} equal steps: gap to plain DDP, by bits on the wire")
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


def _styles(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How each method's marks look: hollow without a basis."""
    colours = method_colours([entry["method"] for entry in entries])
    return {
        method: {"color": colour, "markerfacecolor": "white" if ";basis=0" in method else colour}
        for method, colour in colours.items()
    }


def _draw_panel(axes: Any, entries: Sequence[dict[str, Any]], styles: dict[str, dict[str, Any]]) -> None:
    axes.axhline(0.0, color=INK, linewidth=1.2)
    counts = sorted({entry["ranks"] for entry in entries})
    for ranks in counts:
        alike = [entry for entry in entries if entry["ranks"] == ranks]
        _draw_powersgd(axes, alike, has_names=ranks == counts[0])
        for entry in alike:
            gap = entry["gap_percent"]
            axes.errorbar(
                entry["bits"],
                gap["mean"],
                [[gap["mean"] - gap["low"]], [gap["high"] - gap["mean"]]],
                marker=_marker(ranks),
                markersize=6,
                linewidth=1.0,
                **styles[entry["method"]],
            )
    axes.tick_params(labelbottom=True)
    dress(axes)


def _draw_powersgd(axes: Any, entries: Sequence[dict[str, Any]], has_names: bool) -> None:
    """A line through its points; with names, each has its rank beside it."""
    found = [(POWERSGD.search(entry["method"]), entry) for entry in entries]
    points = sorted((e["bits"], e["gap_percent"]["mean"], match[1]) for match, e in found if match)
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=GREY, linewidth=1.0, zorder=1)
    for x, y, rank in points if has_names else []:
        axes.annotate(rank, (x, y), (4, 4), textcoords="offset points", color=GREY, fontsize=8)


def _set_scales(axes: Any, entries: Sequence[dict[str, Any]]) -> None:
    """Those of all panels, which share them."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_yscale("symlog", linthresh=_LINEAR_PERCENT)
    extremes = [entry["gap_percent"][end] for entry in entries for end in ("low", "high")]
    low, high = min([*extremes, _LEAST_RANGE[0]]), max([*extremes, _LEAST_RANGE[1]])
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def _marker(ranks: int) -> str:
    return _MARKERS.get(ranks, "*")


def _add_legend(figure: Any, entries: Sequence[dict[str, Any]], styles: dict[str, dict[str, Any]]) -> None:
    """The methods by colour, then the numbers of ranks by shape."""
    named = {
        "DDP, PowerSGD, by rank" if POWERSGD.search(method) else label(method): style
        for method, style in styles.items()
    }
    handles = [Line2D([], [], linestyle="", marker="o", label=name, **style) for name, style in named.items()]
    handles += [
        Line2D([], [], linestyle="", marker=_marker(ranks), color=INK, label=f"{ranks} ranks")
        for ranks in sorted({entry["ranks"] for entry in entries})
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
