"""What the pictures have in common. Needs matplotlib."""

from __future__ import annotations

from typing import Any

INK = "#333333"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The Okabe-Ito colours, which are told apart without full colour vision."""


def entitle(figure: Any, text: str) -> None:
    """A title above all panels, at the left."""
    figure.suptitle(text, fontsize=11.5, x=0.01, ha="left")


def dress(axes: Any) -> None:
    """Faint lines across, no frame above and at the right."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
