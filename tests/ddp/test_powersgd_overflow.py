"""Finite factors whose product is beyond what the bucket's dtype holds: a step that is not finite, on all
ranks alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddp.factors import EXACT, assert_equal_factors, factors_of
from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, assert_same_bases, assert_same_tensors, attached, flat
from thinwire import NonFinite

LARGE = 60000.0
"""Two of them are beyond fp16. What a step does not send of the first comes with the second."""


class HalfScaler(torch.amp.GradScaler):
    """A scaler that takes gradients in fp16."""

    def _unscale_grads_(self, optimizer: Any, inv_scale: Any, found_inf: Any, allow_fp16: bool) -> Any:
        return super()._unscale_grads_(optimizer, inv_scale, found_inf, True)


def _gradients(value: float) -> list[torch.Tensor]:
    return [torch.full((96, 80), value).half(), torch.full((300,), 0.5).half()]


def _skipped(rank: int, transport: str) -> None:
    model = Weights((96, 80), (300,), dtype=torch.float16)
    scaler = HalfScaler("cpu", init_scale=1.0, growth_interval=1000)
    ddp, state = attached(EXACT, model, warmup=0, scaler=scaler, transport=transport)
    optimizer = torch.optim.SGD(ddp.parameters(), 2.0**-20)

    def step(value: float) -> None:
        optimizer.zero_grad()
        scaler.scale(ddp(_gradients(value))).backward()
        scaler.step(optimizer)
        scaler.update()

    for value in (0.0, 0.0, 0.0, 0.0, LARGE):
        step(value)
    assert scaler.get_scale() == 1
    before, parameters = state.state_dict(), flat(ddp)
    step(LARGE)
    assert model.weights[0].grad.isinf().any()
    assert model.weights[1].grad.isfinite().all()
    assert scaler.get_scale() == 0.5
    assert torch.equal(flat(ddp), parameters)
    after = state.state_dict()
    for what in ("residuals", "factors"):
        assert_same_tensors(after[what], before[what])
    assert state.report().as_dict()["nonfinite_steps"] == 1
    step(1.0)
    assert_replicas(ddp)
    assert_equal_factors(state)
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_the_scaler_skips_the_step_on_all_ranks(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_skipped, transport)


def _raised(rank: int) -> None:
    model = Weights((96, 80), (300,), dtype=torch.float16)
    ddp, state = attached(EXACT, model, warmup=0, nonfinite="raise")
    ddp(_gradients(LARGE)).backward()
    before = factors_of(state)
    ddp.zero_grad()
    with pytest.raises(NonFinite):
        ddp(_gradients(LARGE)).backward()
    assert_same_bases(factors_of(state), before)
    assert all(r.isfinite().all() for r in state.state_dict()["residuals"].values())
    state.close()


def test_it_is_raised_on_all_ranks(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_raised)
