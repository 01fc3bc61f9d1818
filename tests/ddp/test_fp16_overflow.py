"""A mean that is finite, but not in fp16 once a codec has rounded it up: a step that is not finite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddp.ranks import Ranks
from ddp.training import Weights, attached
from thinwire import NonFinite

GREATEST = 65504.0


def _overflow(rank: int, transport: str) -> None:
    ddp, state = attached(
        "int8", Weights((96, 80), dtype=torch.float16), nonfinite="raise", transport=transport
    )
    with pytest.raises(NonFinite):
        ddp([torch.full((96, 80), GREATEST).half()]).backward()
    assert state.report().as_dict()["nonfinite_steps"] == 1
    state.close()


@pytest.mark.parametrize("transport", ["native", "c10d"])
def test_rounding_up_beyond_fp16_counts(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_overflow, transport)
