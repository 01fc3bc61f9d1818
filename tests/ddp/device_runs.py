"""Training over c10d with gradients that are given, on the CPU or on a device that the CPU plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ddp.late_device import DOWNSTREAM, UPSTREAM, late_device
from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, noise
from thinwire.ddp.stream_engine import StreamEngine

RanksOfSize = Callable[[int], Ranks]
SHAPES = ((300, 130), (77,), (64, 96), (5000,), (40, 11), (128, 64))
STEPS = 5
UNUSED_IN, ZERO = 2, 2
"""In this step this matrix has no gradient."""


class Run:
    """A model with the hook over c10d, on the CPU or on a late device. Gradients are given."""

    def __init__(
        self,
        rank: int,
        codec: str,
        shapes: Sequence[tuple[int, ...]] = SHAPES,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        self._rank, self._shapes = rank, shapes
        self.model = Weights(*shapes, dtype=dtype or torch.float32)
        self.ddp, self.state = attached(codec, self.model, transport="c10d", **options)
        self._optimizer = torch.optim.SGD(self.ddp.parameters(), 0.5)

    def step(self, number: int, poison: float = 0.0, fill: float | None = None) -> None:
        """Train one step; rank 1 adds `poison` to a value of the first matrix, of which all is `fill`."""
        gradients = [noise(self._rank + 10 * i, number, *shape) for i, shape in enumerate(self._shapes)]
        if fill is not None:
            gradients[0].fill_(fill)
        gradients[0][3, 4] += poison if self._rank == 1 else 0.0
        if number == UNUSED_IN:
            gradients[ZERO].zero_()
        self.ddp.zero_grad()
        self.ddp([g.to(w.dtype) for g, w in zip(gradients, self.model.weights, strict=True)]).backward()
        self._optimizer.step()

    def bits(self) -> dict[str, Any]:
        """Return all that must be the same on a device."""
        saved = self.state.state_dict()
        kept = ("residuals", "bases", "pending")
        report = self.state.report().as_dict()
        return {
            "parameters": [bytes_of(w) for w in self.model.weights],
            **{what: {name: bytes_of(entry) for name, entry in saved[what].items()} for what in kept},
            "step": saved["step"],
            "sent": report["bytes_sent"],
            "nonfinite": report["nonfinite_steps"],
            "steps": report["steps"],
        }


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def _bits(
    rank: int, first: Sequence[str] | None, codec: str, options: dict[str, Any], play: Callable[[Run], None]
) -> dict[str, Any]:
    torch.manual_seed(0)
    with late_device(first) if first else nullcontext():
        run = Run(rank, codec, **options)
        assert isinstance(run.state._engine, StreamEngine) == bool(first)
        play(run)
        assert_replicas(run.model)
        found = run.bits()
        run.state.close()
    return found


def same(rank: int, codec: str, options: dict[str, Any], play: Callable[[Run], None]) -> None:
    """Play on the CPU and on late devices, and find the same bits."""
    wanted = _bits(rank, None, codec, options, play)
    for first in (UPSTREAM, DOWNSTREAM):
        found = _bits(rank, first, codec, options, play)
        for what, bits in wanted.items():
            assert found[what] == bits, (what, first)


def steps(run: Run) -> None:
    """Train some steps."""
    for number in range(STEPS):
        run.step(number)


def goes_on(run: Run) -> None:
    """Train on after something was raised, and find all ranks alike."""
    run.step(50)
    run.step(51)
    assert run.state.report().as_dict()["steps"] > 0
    grads = [nn.Parameter(w.grad) for w in run.model.weights]
    assert_replicas(nn.ParameterList(grads))
