"""A rank's batch with its weight, and how many samples each rank takes of a global batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.errors import InvalidArgument


class Batch(list[int]):
    """One rank's indices of a global batch: a list, so that it serves wherever torch takes a batch.

    `indices`: the same, int64 of shape (samples,). `weight`: this rank's share of the global batch, for
    `HookState.set_weight`: the sum over ranks of weight times mean gradient is the mean gradient of the
    global batch.
    """

    __slots__ = ("indices", "weight")

    def __init__(self, indices: NDArray[np.int64], weight: float) -> None:
        super().__init__(indices.tolist())
        self.indices = indices
        self.weight = weight

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (self.indices, self.weight)


def global_size(left: int, batch_size: int, world_size: int) -> int:
    """How many of the samples that are left the next global batch takes.

    It takes `batch_size` a rank, or what is left. Where the last one would hold fewer samples than there are
    ranks, the one before leaves it one each, unless its own ranks have but one.
    """
    full = batch_size * world_size
    if full < left < full + world_size and batch_size > 1:
        return left - world_size
    return min(left, full)


def global_batches(left: int, batch_size: int, world_size: int) -> int:
    """How many global batches the samples that are left make."""
    return -(-left // (batch_size * world_size))


@lru_cache(maxsize=256)
def apportion(total: int, shares: tuple[float, ...]) -> NDArray[np.int64]:
    """Divide `total` samples by `shares`, positive numbers: int64 (ranks,), the same on every machine.

    Each rank takes one at least, where there are enough; the rest goes by largest remainders, of equal ones
    to the lower rank.
    """
    least = 1 if total >= len(shares) else 0
    counts = np.full(len(shares), least, np.int64)
    left, scale = total - least * len(shares), total / math.fsum(shares)
    if left > 0:
        wanted = np.array([max(share * scale - least, 0.0) for share in shares])
        wanted *= left / math.fsum(wanted)
        whole = np.floor(wanted).astype(np.int64)
        remainders = np.argsort(whole - wanted, kind="stable")
        whole[remainders[: left - int(whole.sum())]] += 1
        counts += whole
    counts.flags.writeable = False  # it is cached
    return counts


def checked_count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer argument. Raises InvalidArgument, which names it, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidArgument(f"{name} is {value!r}; it must be an integer of {least} or more")
    return int(value)


def checked_rank(rank: Any, world_size: int) -> int:
    """Return a rank of `world_size`. Raises InvalidArgument for any other."""
    if checked_count("rank", rank, 0) >= world_size:
        raise InvalidArgument(f"rank is {rank}; of {world_size} ranks the last is {world_size - 1}")
    return int(rank)


def checked_shares(name: str, shares: Any, world_size: int) -> tuple[float, ...]:
    """Return a positive number for each rank, as floats. Raises InvalidArgument for anything else."""
    try:
        found = tuple(float(share) for share in shares)
    except (TypeError, ValueError):
        found = ()
    if len(found) != world_size or not all(math.isfinite(share) and share > 0 for share in found):
        raise InvalidArgument(f"{name} is {shares!r}; it must be {world_size} positive numbers, one a rank")
    return found


def checked_steps(steps: Any, epoch: int, left: int) -> int:
    """Return how many steps to commit. Raises InvalidArgument for more batches than the epoch has left."""
    if checked_count("steps", steps, 0) > left:
        raise InvalidArgument(
            f"steps is {steps}, but epoch {epoch} has only {left} batches left; commit the last steps of an "
            "epoch before you go on to the next"
        )
    return int(steps)


def check_state(state: Any, version: int, size: int) -> None:
    """Raise InvalidArgument unless `state` is one of a sampler of `size` samples, of this version."""
    if not isinstance(state, Mapping) or state.get("version") != version:
        raise InvalidArgument("this is no state of such a sampler, or that of another release of thinwire")
    for name in ("size", "seed", "epoch"):
        checked_count(f"{name} of the state", state.get(name), 0)
    if state["size"] != size:
        raise InvalidArgument(f"the state is of {state['size']} samples, and this sampler of {size}")
