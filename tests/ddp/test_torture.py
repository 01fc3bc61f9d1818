"""Long training, run by `make torture`: replicas stay the same bits on many ranks and unlike CPUs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import thinwire as tw
from ddp.ranks import Ranks
from ddp.training import assert_replicas, attached, train
from thinwire import _core

STEPS = 200
CODECS = [*(info.name for info in tw.codecs()), "int4:rounding=stochastic"]


def _train_for_long(rank: int, codec: str) -> None:
    if rank == 1:
        _core.force_target("scalar")
    ddp, state = attached(codec, verify_every=20)
    train(ddp, rank, STEPS)
    assert_replicas(ddp)
    _core.force_target(None)
    state.close()


@pytest.mark.torture
@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("codec", CODECS)
def test_replicas_stay_bit_identical(ranks: Callable[[int], Ranks], codec: str, size: int) -> None:
    ranks(size)(_train_for_long, codec, timeout=300.0)
