"""What the pictures have in common. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thinwire.bench._ddp_plan import PLAIN

INK = "#333333"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The Okabe-Ito colours, which are told apart without full colour vision."""

GREY = "#7f7f7f"
_TORCH_COLOURS = {PLAIN: "#000000", "torch/fp16": "#000000"}


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """One for each codec of thinwire's, whatever its options; black and grey for PyTorch's ways."""
    codecs = list(dict.fromkeys(_codec(method) for method in methods if not _is_torch(method)))
    return {
        method: _TORCH_COLOURS.get(method, GREY)
        if _is_torch(method)
        else COLOURS[codecs.index(_codec(method)) % len(COLOURS)]
        for method in dict.fromkeys(methods)
    }


def _is_torch(method: str) -> bool:
    return method.startswith("torch/")


def _codec(method: str) -> str:
    return method.partition(";")[0]


def entitle(figure: Any, text: str) -> None:
    """A title above all panels, at the left."""
    figure.suptitle(text, fontsize=11.5, x=0.01, ha="left")


def dress(axes: Any) -> None:
    """Faint lines across, no frame above and at the right."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
