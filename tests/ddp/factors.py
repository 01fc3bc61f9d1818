"""What the tests of PowerSGD share: names, and a look at the factors."""

from __future__ import annotations

import numpy as np

from ddp.training import assert_held_by_all
from thinwire.ddp import HookState

CODEC = "powersgd:rank=4"
EXACT = "powersgd:rank=4,factors=fp32"

Arrays = dict[str, np.ndarray]


def factors_of(state: HookState) -> Arrays:
    """Return the factor pairs by the names of their parameters."""
    return {name: pair.numpy() for name, pair in state.state_dict()["factors"].items()}


def sides_of(pair: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and the right factor of a pair."""
    rank = pair.size // (rows + columns)
    return pair[: rank * rows].reshape(rank, rows), pair[rank * rows :].reshape(rank, columns)


def assert_equal_factors(state: HookState) -> None:
    """Check that there are factors, and that all ranks hold the same bits."""
    assert_held_by_all(factors_of(state))
