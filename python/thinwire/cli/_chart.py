"""The demo's picture: loss against wall-clock time, and the step time of each method. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from thinwire.bench._chart_style import COLOURS, INK

if TYPE_CHECKING:
    from thinwire.cli._demo_results import Result
    from thinwire.cli._shaped import Link

_FAINT = "#888888"
# Greys for PyTorch's ways, COLOURS for thinwire's codecs. Each line also has its name beside it.
_BASELINE_COLOURS = ("#000000", "#666666", "#969696")


def draw(results: Sequence[Result], link: Link, path: Path) -> None:
    """Write the picture of all methods that have an outcome to `path`; its suffix chooses the format."""
    done = [result for result in results if result.outcome]
    colours = _colours([result.method for result in done])
    figure, (curves, bars) = pyplot.subplots(
        1, 2, figsize=(12.5, 5.2), gridspec_kw={"width_ratios": (1.35, 1)}, layout="constrained"
    )
    try:
        with matplotlib.rc_context({"text.color": INK}):
            _draw_curves(curves, [result for result in done if result.communicates], colours)
            _draw_bars(bars, done, colours)
            figure.suptitle(f"Training over a thin link. {link.describe()}", fontsize=11, x=0.01, ha="left")
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved apart to at least `gap`, each as little as its order allows."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    for _ in range(100):
        moved = False
        for low, high in pairwise(order):
            lack = gap - (placed[high] - placed[low])
            if lack > 1e-9:
                placed[low] -= lack / 2
                placed[high] += lack / 2
                moved = True
        if not moved:
            break
    return placed


def _colours(methods: Sequence[str]) -> dict[str, str]:
    colours = {"none": _FAINT}
    for prefix, palette in (("torch/", _BASELINE_COLOURS), ("thinwire/", COLOURS)):
        family = [method for method in methods if method.startswith(prefix)]
        colours |= {method: palette[index % len(palette)] for index, method in enumerate(family)}
    return colours


def _draw_curves(axes: Any, results: Sequence[Result], colours: dict[str, str]) -> None:
    ends = []
    for result in results:
        assert result.outcome is not None
        times, losses = result.outcome["held_out_s"], result.outcome["held_out_losses"]
        dashes = "-" if result.method.startswith("thinwire/") else (0, (4, 1.5))
        axes.plot(times, losses, color=colours[result.method], linewidth=1.8, linestyle=dashes, marker=".")
        ends.append((times[-1], losses[-1]))
    _frame(axes, "Loss on held-out text against time", "seconds of training after warm-up")
    axes.set_ylabel("nats a character")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    if not ends:
        return
    right = max(time for time, _ in ends)
    axes.set_xlim(0, right)
    bottom, top = axes.get_ylim()
    heights = spread_labels([loss for _, loss in ends], 0.046 * (top - bottom))
    for result, (time, loss), height in zip(results, ends, heights, strict=True):
        axes.annotate(
            result.label,
            xy=(time, loss),
            xytext=(right * 1.03, height),
            annotation_clip=False,
            va="center",
            color=colours[result.method],
            fontsize=9.5,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[result.method],
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )


def _draw_bars(axes: Any, results: Sequence[Result], colours: dict[str, str]) -> None:
    plain = next((result.step_ms for result in results if result.method == "torch/plain"), None)
    ordered = [result for result in results if result.communicates]
    widest = max((result.step_ms or 0.0 for result in ordered), default=1.0)
    for position, result in enumerate(ordered):
        step = result.step_ms or 0.0
        axes.barh(position, step, color=colours[result.method], height=0.62)
        ratio = f"  {plain / step:.1f} x" if plain and result.method != "torch/plain" else ""
        axes.text(step + 0.015 * widest, position, f"{step:.0f} ms{ratio}", va="center", fontsize=9.5)
    axes.set_yticks(range(len(ordered)), [result.label for result in ordered])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.22 * widest)
    alone = next((result.step_ms for result in results if not result.communicates), None)
    if alone:
        axes.axvline(alone, color=_FAINT, linewidth=1, linestyle=":")
        axes.annotate(
            f"computation alone, {alone:.0f} ms",
            xy=(alone, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, 2),
            textcoords="offset points",
            color=_FAINT,
            fontsize=9,
        )
    _frame(axes, "Step time, and how many times shorter", "milliseconds a step (median of the second half)")
    axes.tick_params(axis="y", length=0)


def _frame(axes: Any, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, pad=16)
    axes.set_xlabel(below)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
