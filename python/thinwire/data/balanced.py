"""BalancedBatchSampler: batches that cost all ranks the same, of samples of unequal length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinwire import _core
from thinwire.data.batches import Batch, check_state, checked_count, checked_rank, checked_steps
from thinwire.data.cost import Cost
from thinwire.data.planning import Epoch, Rules, Window
from thinwire.errors import InvalidArgument

STATE_VERSION = 1
"""Of the order and of the plans as well: what they are for a seed, an epoch, and rules."""
MEANS = ("samples", "lengths")


class BalancedBatchSampler:
    """Batches that cost all ranks the same, for torch's `batch_sampler=` or a RecordReader.

    Args:
        lengths: of all samples, positive numbers of any unit (tokens, pixels, bytes), shape (samples,).
        batch_size: samples of one rank's batch.
        rank, world_size: whose batches these are.
        cost: what a sample of a length costs; `fit_cost` measures it. The same on all ranks, as all below.
        seed: of the order.
        skew: by how many samples a batch may differ from `batch_size`; 0 for equal counts. A few make room
            for samples that cost as much as a whole batch of others.
        speeds: how fast the ranks are, a positive number each; None where they are alike.
        drop_last: whether to leave out the last samples where they do not fill a global batch. Otherwise
            they are divided evenly, as `ElasticSampler` does it.
        mean_over: what your loss is the mean over: "samples", or "lengths" (as tokens). Gives the weights.
        window: how many global batches are planned together, from samples that chance brought together.

    A plan follows from these arguments and the epoch alone, so that ranks agree without a word, and takes
    O(n log n). Costs that cannot be balanced meet: batches of like cost make a global batch. As with
    `ElasticSampler`, the cursor moves by `commit` alone, every sample comes exactly once an epoch, and a
    state resumes with any number of ranks.

    Raises InvalidArgument for arguments that do not fit.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        batch_size: int,
        rank: int,
        world_size: int,
        cost: Cost | None = None,
        seed: int = 0,
        *,
        skew: int = 0,
        speeds: Sequence[float] | None = None,
        drop_last: bool = False,
        mean_over: str = "samples",
        window: int = 64,
    ) -> None:
        self._lengths = _checked_lengths(lengths)
        self._rules = Rules.checked(
            batch_size=batch_size,
            world_size=world_size,
            cost=cost or Cost(),
            skew=skew,
            speeds=[1.0] * checked_count("world_size", world_size) if speeds is None else speeds,
            drop_last=drop_last,
            window=window,
        )
        self.rank = checked_rank(rank, self._rules.world_size)
        if mean_over not in MEANS:
            raise InvalidArgument(f"mean_over is {mean_over!r}; it must be one of {', '.join(MEANS)}")
        self._past: list[tuple[Rules, int]] = []  # what was done of the epoch under other rules
        self._weights: deque[float] = deque()  # of the batches given out from the cursor on
        self._over_lengths = mean_over == "lengths"
        self._seed = checked_count("seed", seed, 0)
        self._begin(0)

    @property
    def epoch(self) -> int:
        """The epoch in which the cursor lies."""
        return self._epoch

    @property
    def weight(self) -> float:
        """The weight of this rank's batch at the cursor: that of the step to be committed next.

        For loaders that hand on the samples but not the `Batch`. Raises InvalidArgument where that batch has
        not been given out yet.
        """
        if not self._weights:
            raise InvalidArgument("no batch has been given out since the last commit, so none has a weight")
        return self._weights[0]

    def __len__(self) -> int:
        """How many batches the epoch still has, from the cursor on; as many on every rank."""
        return self._rules.steps(self._samples.count(self._rest)) - self._done

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the cursor to the end of its epoch. Commits that come meanwhile change nothing."""
        self._weights = deque()
        return self._given_out(self._samples.windows(self._rest, self._rules, self._done), self._weights)

    def commit(self, steps: int = 1) -> None:
        """Move the cursor past the next `steps` batches; after the last one of an epoch begins the next.

        Call it on all ranks once the model has taken the steps. Raises InvalidArgument, and moves nothing,
        for more batches than the epoch has left.
        """
        left = len(self)
        taken = checked_steps(steps, self._epoch, left)
        for _ in range(min(taken, len(self._weights))):
            self._weights.popleft()
        self._done += taken
        if taken == left:
            self._begin(self._epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; in the cursor's own, stay where it is."""
        wanted = checked_count("epoch", epoch, 0)
        if wanted != self._epoch:
            self._begin(wanted)

    def state_dict(self) -> dict[str, Any]:
        """Return the cursor and what made the batches before it, as small JSON. The same on all ranks."""
        return {
            "version": STATE_VERSION,
            "size": len(self._lengths),
            "lengths": self._digest,
            "seed": self._seed,
            "epoch": self._epoch,
            "parts": [
                {"rules": rules.as_dict(), "steps": steps}
                for rules, steps in [*self._past, (self._rules, self._done)]
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another sampler was, of any rank and any arguments but the lengths; with its seed.

        The same rules (all arguments but rank and `mean_over`) give the same batches from there on; others
        divide what the epoch still has. Raises InvalidArgument, and changes nothing, for a state of other
        data or of another version.
        """
        check_state(state, STATE_VERSION, len(self._lengths))
        if state.get("lengths") != self._digest:
            raise InvalidArgument("the state is of as many samples, but of others: their lengths differ")
        *past, (rules, done) = _parts(state)
        if rules != self._rules:
            past, done = [*past, (rules, done)], 0
        samples = Epoch(self._lengths, state["seed"], state["epoch"])
        rest = samples.whole
        for former, steps in past:
            rest = samples.rest_after(rest, former, steps)
        samples.check_done(rest, self._rules, done)
        self._seed = state["seed"]
        self._begin(state["epoch"])
        self._past, self._rest, self._done = past, rest, done
        if len(self) == 0:  # what is left does not fill a global batch
            self._begin(self._epoch + 1)

    @cached_property
    def _digest(self) -> str:
        """Of the lengths."""
        values: Any = self._lengths.astype("<f8")  # a buffer, which NumPy's types do not say
        return _core.xxh3_128(values).hex()

    def _begin(self, epoch: int) -> None:
        self._epoch, self._done = epoch, 0
        self._samples = Epoch(self._lengths, self._seed, epoch)
        self._rest = self._samples.whole
        self._past, self._weights = [], deque()

    def _given_out(self, windows: Iterator[Window], weights: deque[float]) -> Iterator[Batch]:
        for window in windows:
            for batch in self._batches(window):
                weights.append(batch.weight)
                yield batch

    def _batches(self, window: Window) -> Iterator[Batch]:
        """This rank's batches of a window, but those that are behind us."""
        weighed = self._lengths[window.samples] if self._over_lengths else np.ones(len(window.samples))
        world_size = self._rules.world_size
        sums = np.bincount(window.bins, weighed, len(window.sizes) * world_size).reshape(-1, world_size)
        weights = sums[:, self.rank] / sums.sum(axis=1)
        for step in range(window.done, len(window.sizes)):
            mine = window.samples[window.bins == step * world_size + self.rank]
            yield Batch(mine, float(weights[step]))


def _parts(state: Mapping[str, Any]) -> list[tuple[Rules, int]]:
    """Under which rules how many steps were done. Raises InvalidArgument for a damaged state."""
    try:
        parts = [(Rules.from_dict(part["rules"]), part["steps"]) for part in state["parts"]]
    except (KeyError, TypeError) as error:
        raise InvalidArgument(f"the state is damaged: {error!r}") from error
    for _, steps in parts:
        checked_count("steps of the state", steps, 0)
    if not parts:
        raise InvalidArgument("the state is damaged: it has no parts")
    return parts


def _checked_lengths(lengths: ArrayLike) -> NDArray[Any]:
    """Lengths in one dimension. Raises InvalidArgument unless all are positive and finite."""
    found = np.asarray(lengths)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iuf":
        raise InvalidArgument(f"lengths are {found.dtype} of shape {found.shape}; pass one number a sample")
    wrong = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(wrong):
        raise InvalidArgument(f"the length of sample {wrong[0]} is {found[wrong[0]]}; it must be above 0")
    return found


__all__ = ["BalancedBatchSampler"]
