"""Gradients that are not finite, or overflow on the way, by each policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, error_of, noise
from thinwire.errors import NonFinite


def _nonfinite(rank: int, policy: str) -> None:
    model = Weights((80, 80), (50,))
    ddp, state = attached("int4", model, nonfinite=policy)
    gradients = [noise(rank, 0, 80, 80), noise(rank, 1, 50)]
    ddp(gradients).backward()
    ddp.zero_grad()
    bad = [gradients[0].clone(), gradients[1].clone()]
    if rank == 1:
        bad[0][70, 3] = float("inf")
        bad[1][5] = float("nan")
    if policy == "raise":
        assert isinstance(error_of(lambda: ddp(bad).backward()), NonFinite)
    else:
        ddp(bad).backward()
        assert model.weights[0].grad[70, 3].isnan()
        assert model.weights[1].grad[5].isnan()
        assert model.weights[0].grad.isfinite().any()
    assert_replicas(nn.ParameterList([nn.Parameter(p.grad.nan_to_num(7.0)) for p in model.weights]))
    assert all(r.isfinite().all() for r in state.state_dict()["residuals"].values())
    assert state.report().as_dict()["nonfinite_steps"] == 1
    ddp.zero_grad()
    ddp(gradients).backward()
    assert all(p.grad.isfinite().all() for p in model.weights)
    state.close()


@pytest.mark.parametrize("policy", ["propagate", "raise"])
def test_nonfinite_gradients(ranks: Callable[[int], Ranks], policy: str) -> None:
    ranks(2)(_nonfinite, policy)


def _sum_overflows(rank: int) -> None:
    """A gradient is finite in fp32, but not in the fp16 that is sent."""
    model = Weights((80, 80))
    ddp, state = attached("fp16", model, nonfinite="raise")
    with pytest.raises(NonFinite):
        ddp([torch.full((80, 80), 2e5)]).backward()
    state.close()


def test_overflow_of_the_codec_counts_as_not_finite(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_sum_overflows)
