"""Small models and training steps that the hook's tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from thinwire import Error
from thinwire.ddp import HookState, attach
from thinwire.ddp.verify import hash_tensors

Step = Callable[[DistributedDataParallel, int, int], None]
"""Runs forward and backward of one step: (model, rank, number of the step)."""


class Net(nn.Module):
    """Three linear layers and a norm: matrices above the default `small`, and small parameters."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.norm = nn.LayerNorm(width)
        self.middle = nn.Linear(width, width)
        self.last = nn.Linear(width, 64)

    def forward(self, x: torch.Tensor, skip_middle: bool = False) -> torch.Tensor:
        """Map (batch, 64) to (batch, 64)."""
        x = self.norm(self.first(x).relu())
        return self.last(x if skip_middle else self.middle(x).relu())


class Weights(nn.Module):
    """Bare matrices whose gradients a test sets: the loss is their product with the wanted gradients."""

    def __init__(self, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes])

    def forward(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss whose gradients are `gradients`."""
        return sum((w * g).sum() for w, g in zip(self.weights, gradients, strict=True))


def make_ddp(model: nn.Module | None = None, seed: int = 0, **options: Any) -> DistributedDataParallel:
    """Return a model in DDP with small buckets, the same on every rank."""
    torch.manual_seed(seed)
    return DistributedDataParallel(Net() if model is None else model, **{"bucket_cap_mb": 0.05, **options})


def attached(
    codec: str = "int8", model: nn.Module | None = None, ddp: dict[str, Any] | None = None, **options: Any
) -> tuple[DistributedDataParallel, HookState]:
    """Return a DDP model with the hook on it."""
    wrapped = make_ddp(model, **(ddp or {}))
    return wrapped, attach(wrapped, codec, **options)


def error_of(function: Callable[[], Any]) -> Exception:
    """Return the error of this library that a call must raise."""
    with pytest.raises(Error) as raised:
        function()
    return raised.value


def noise(rank: int, step: int, *shape: int) -> torch.Tensor:
    """Return random numbers that differ by rank and step."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1000 * step + rank))


def step_of_two(ddp: Any, rank: int, number: int, poison: float = 0.0, where: int = 0) -> None:
    """Run a step of `Weights((160, 96), (160, 96))`; rank 1 adds `poison` to one value of matrix `where`."""
    gradients = [noise(rank + 10 * i, number, 160, 96) for i in range(2)]
    gradients[where][3, 4] += poison if rank == 1 else 0.0
    ddp.zero_grad()
    ddp(gradients).backward()


def plain_step(ddp: Callable[..., torch.Tensor], rank: int, step: int) -> None:
    """Run one forward and backward."""
    ddp(noise(rank, step, 4, 64)).square().mean().backward()


def train(
    ddp: DistributedDataParallel, rank: int, steps: int, step: Step = plain_step, first: int = 0
) -> None:
    """Run training steps with a stateful optimizer made here."""
    optimizer = torch.optim.SGD(ddp.parameters(), 0.05, momentum=0.9)
    for number in range(first, first + steps):
        optimizer.zero_grad()
        step(ddp, rank, number)
        optimizer.step()


def flat(model: nn.Module) -> torch.Tensor:
    """Return all parameters as one tensor."""
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


def assert_replicas(model: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Check that all ranks hold the same bits."""
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, hash_tensors(list(model.parameters())), group=group)
    assert len(set(found)) == 1, found


def assert_goes_on(ddp: DistributedDataParallel, rank: int) -> None:
    """Check that DDP can still be used: gradients are the same everywhere."""
    ddp.zero_grad()
    train(ddp, rank, 2, first=50)
    assert_replicas(ddp)


def bases_of(state: HookState) -> dict[str, np.ndarray]:
    """Return the shared bases by the names of their parameters."""
    return {name: vectors.numpy() for name, vectors in state.state_dict()["bases"].items()}


def assert_same_bases(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Check that two sets of bases are the same bits under the same names."""
    assert found.keys() == wanted.keys()
    for name, vectors in found.items():
        assert vectors.tobytes() == wanted[name].tobytes(), name


def assert_same_tensors(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Check that there are tensors, and that two sets of them hold the same values under the same names."""
    assert found.keys() == wanted.keys()
    assert found
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def assert_equal_bases(state: HookState) -> None:
    """Check that there are bases, and that all ranks hold the same bits."""
    assert_held_by_all(bases_of(state))


def assert_held_by_all(arrays: dict[str, np.ndarray]) -> None:
    """Check that there are arrays, and that all ranks have the same bits."""
    everybodys: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybodys, arrays)
    assert everybodys[0]
    for others in everybodys[1:]:
        assert_same_bases(others, everybodys[0])


def codings_of(state: HookState) -> set[str]:
    """Return how the parameters of all buckets travel."""
    programs = state._engine._planner.programs()
    return {coding for program in programs for coding in program.plan.description["codecs"]}


def assert_like_plain_ddp(
    rank: int, step: Step = plain_step, model: Callable[[], nn.Module] = Net, steps: int = 5, **ddp: Any
) -> None:
    """Check that the hook does what plain DDP does: to the bit with the codec raw, nearly with int8.

    With two ranks the mean's only rounding is that of one addition, so raw must give the same bits.
    """

    def run(codec: str | None) -> DistributedDataParallel:
        torch.manual_seed(0)
        wrapped = make_ddp(model(), **ddp)
        state = None if codec is None else attach(wrapped, codec)
        train(wrapped, rank, steps, step)
        assert_replicas(wrapped)
        if state is not None:
            assert state.report().as_dict()["steps"] > 0
            state.close()
        return wrapped

    wanted = flat(run(None))
    assert torch.equal(flat(run("raw")), wanted)
    difference = (flat(run("int8")) - wanted).norm() / wanted.norm()
    assert 0 < difference < 0.02
