"""Histories of a training job that dies, resumes and changes its size; a ledger of what it trained on."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.data import Batch

MakeSampler = Callable[[int, int, int], Any]
"""(batch_size, rank, world_size) to a sampler."""


class Loader:
    """Takes a sampler's batches `depth` ahead of their use, as a loader's workers do."""

    def __init__(self, sampler: Any, depth: int) -> None:
        self._batches: Iterator[Batch] = iter(sampler)
        self._ahead: deque[Batch] = deque()
        self._depth = depth

    def next(self) -> Batch | None:
        """Return the next batch, or None at the end."""
        while len(self._ahead) <= self._depth and (batch := next(self._batches, None)) is not None:
            self._ahead.append(batch)
        return self._ahead.popleft() if self._ahead else None


class Job:
    """Some ranks that train together until they are killed, on samples that a ledger counts."""

    def __init__(self, samplers: list[Any], chance: random.Random) -> None:
        self.samplers, self._chance = samplers, chance

    def train(self, ledger: NDArray[np.int64], steps: int) -> None:
        """Go through the epoch for `steps` steps at most; what is not committed then, is lost.

        `ledger`: of the epoch's samples, (samples,): counts those of committed steps.
        """
        left = len(self.samplers[0])
        loaders = [Loader(sampler, self._chance.randint(0, 5)) for sampler in self.samplers]
        accumulated, pending = self._chance.randint(1, 3), []
        for number in range(1, min(steps, left) + 1):
            pending.append([loader.next() for loader in loaders])
            assert abs(sum(batch.weight for batch in pending[-1]) - 1) < 1e-12
            if len(pending) == accumulated or number == left:
                for sampler, batch in zip(self.samplers, pending[0], strict=True):
                    assert sampler.weight == batch.weight
                    sampler.commit(len(pending))
                for batches in pending:
                    np.add.at(ledger, np.concatenate([batch.indices for batch in batches]), 1)
                pending = []
        if steps >= left:
            assert [loader.next() for loader in loaders] == [None] * len(loaders)

    def state(self) -> str:
        """Return the state that all ranks agree on."""
        (state,) = {json.dumps(sampler.state_dict()) for sampler in self.samplers}
        return state


def live(make: MakeSampler, size: int, epochs: int, chance: random.Random) -> None:
    """Live one history: jobs of random sizes, one after another, until the epochs are over.

    Each resumes from the state of the one before and dies after some steps; ranks fetch ahead by different
    depths. In every epoch every sample must be committed once.
    """
    ledger = np.zeros((epochs, size), np.int64)
    state, epoch = None, 0
    while epoch < epochs:
        batch_size, world_size = chance.randint(1, 9), chance.randint(1, 6)
        job = Job([make(batch_size, rank, world_size) for rank in range(world_size)], chance)
        if state is not None:
            for sampler in job.samplers:
                sampler.load_state_dict(json.loads(state))
        for _ in range(chance.randint(1, 3)):  # loaders made anew in the same process
            if epoch < epochs:
                job.train(ledger[epoch], chance.randint(1, chance.choice([3, 8, 30])))
                epoch = job.samplers[0].epoch
        state = job.state()
    assert (ledger == 1).all()
