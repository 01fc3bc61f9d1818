"""The picture of `bench ring`: how many times as fast as Gloo each method is. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from thinwire.bench import _ring_plan as plan
from thinwire.bench._chart_style import COLOURS, INK, dress, entitle
from thinwire.cli._shaped import format_rate

_MPI_COLOUR = "#7f7f7f"
_DASHES = {"tcp": "-", "shm": (0, (4, 1.5))}


def draw(places: list[dict[str, Any]], path: Path) -> None:
    """Write the picture to `path`: a column for each link, a row for each number of ranks."""
    rates = list(dict.fromkeys(place["rate_bits"] for place in places))
    counts = list(dict.fromkeys(place["ranks"] for place in places))
    figure, panels = pyplot.subplots(
        len(counts),
        len(rates),
        figsize=(4.9 * len(rates) + 1.8, 3.9 * len(counts) + 0.5),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    try:
        with matplotlib.rc_context({"text.color": INK}):
            for line in panels:
                for axes in line:
                    axes.set_visible(False)
            for place in places:
                _draw_place(panels[counts.index(place["ranks"])][rates.index(place["rate_bits"])], place)
            _add_legend(figure, panels)
            entitle(figure, "All-reduce of fp32: times as fast as Gloo (median, quartiles shaded)")
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


def _draw_place(axes: Any, place: dict[str, Any]) -> None:
    axes.set_visible(True)
    codecs = list(dict.fromkeys(found["codec"] for found in place["rows"] if found["library"] == "thinwire"))
    sizes = sorted({found["bytes"] for found in place["rows"]})
    axes.axhline(1.0, color=INK, linewidth=1.2, label="Gloo")
    for method in dict.fromkeys(found["method"] for found in place["rows"]):
        if method == plan.GLOO:
            continue
        rows = [found for found in place["rows"] if found["method"] == method and found["times_gloo"]]
        _draw_method(axes, rows, codecs)
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.set_xticks(sizes, [plan.format_size(size) for size in sizes], rotation=30, ha="right", fontsize=8.5)
    axes.minorticks_off()
    axes.tick_params(labelbottom=True)
    where = format_rate(place["rate_bits"]) if place["rate_bits"] else "this machine alone"
    axes.set_title(f"{place['ranks']} ranks, {where}", loc="left", fontsize=10.5)
    dress(axes)


def _draw_method(axes: Any, rows: list[dict[str, Any]], codecs: list[str]) -> None:
    if not rows:
        return
    first = rows[0]
    mpi = first["library"] != "thinwire"
    colour = _MPI_COLOUR if mpi else COLOURS[codecs.index(first["codec"]) % len(COLOURS)]
    sizes = [found["bytes"] for found in rows]
    ratios = [found["times_gloo"] for found in rows]
    axes.plot(
        sizes,
        [ratio["median"] for ratio in ratios],
        color=colour,
        linestyle=_DASHES[first["link"]],
        linewidth=1.8,
        marker="o",
        markersize=3.5,
        label=plan.label(first["method"]),
    )
    lows, highs = [ratio["low"] for ratio in ratios], [ratio["high"] for ratio in ratios]
    axes.fill_between(sizes, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _add_legend(figure: Any, panels: Any) -> None:
    """One legend for all panels, beside them."""
    entries: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        handlelength=3.2,
    )
