"""The names under which parameters are saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch


class Names:
    """Names of parameters. One that has none gets its position in order of first use, and its shape."""

    def __init__(self, known: Mapping[torch.Tensor, str] | None) -> None:
        self._known = dict(known or {})

    def of(self, parameter: torch.Tensor) -> str:
        """Return the parameter's name."""
        name = self._known.get(parameter)
        if name is None:
            shape = "x".join(map(str, parameter.shape))
            name = self._known[parameter] = f"{len(self._known)}:{shape}"
        return name


def some(names: Iterable[str]) -> str:
    """Return the first few of these names, for a message."""
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
