"""Global batches of equal cost, planned a window at a time from what an epoch still has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire.data.batches import apportion, checked_count, checked_shares, global_batches, global_size
from thinwire.data.cost import Cost
from thinwire.data.order import Order
from thinwire.data.packing import Bins, longest_first
from thinwire.errors import InvalidArgument

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What a plan depends on besides the samples. `BalancedBatchSampler` says what each rule means."""

    batch_size: int
    world_size: int
    cost: Cost
    skew: int
    speeds: tuple[float, ...]
    drop_last: bool
    window: int

    @classmethod
    def checked(cls, **given: Any) -> Rules:
        """Return rules of these values, one a field. Raises InvalidArgument for those that do not fit."""
        world_size = checked_count("world_size", given["world_size"])
        return cls(
            batch_size=checked_count("batch_size", given["batch_size"]),
            world_size=world_size,
            cost=given["cost"],
            skew=checked_count("skew", given["skew"], 0),
            speeds=checked_shares("speeds", given["speeds"], world_size),
            drop_last=bool(given["drop_last"]),
            window=checked_count("window", given["window"]),
        )

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Rules:
        """Return the rules that `as_dict` wrote."""
        return cls.checked(**{**written, "cost": Cost(**written["cost"])})

    def as_dict(self) -> dict[str, Any]:
        """Return them as JSON takes them."""
        return asdict(self)

    def steps(self, samples: int) -> int:
        """How many global batches that many samples make."""
        if self.drop_last:
            return samples // (self.batch_size * self.world_size)
        return global_batches(samples, self.batch_size, self.world_size)

    def sizes(self, samples: int) -> list[int]:
        """The sizes of the next global batches of that many samples, a window at most."""
        count = min(self.window, self.steps(samples))
        if self.drop_last:
            return [self.batch_size * self.world_size] * count
        found: list[int] = []
        for _ in range(count):
            found.append(global_size(samples - sum(found), self.batch_size, self.world_size))
        return found


class Rest(NamedTuple):
    """What an epoch still has: samples that were kept back, then its order from a place on."""

    kept: Ints
    start: int


class Window(NamedTuple):
    """Global batches that are planned together.

    `samples`: int64 (samples,), and for each the `bins`: step * world_size + rank. `sizes`: of the global
    batches. `done`: how many of them are behind us. `after`: what the epoch still has when all are.
    """

    samples: Ints
    bins: Ints
    sizes: list[int]
    done: int
    after: Rest


class Epoch:
    """The samples of an epoch in their order, and plans for them."""

    def __init__(self, lengths: NDArray[Any], seed: int, number: int) -> None:
        self._lengths, self._key = lengths, (seed, number)
        self._order = Order(len(lengths), self._key)
        self.whole = Rest(np.empty(0, np.int64), 0)

    def count(self, rest: Rest) -> int:
        """How many samples a rest has."""
        return len(rest.kept) + len(self._lengths) - rest.start

    def windows(self, rest: Rest, rules: Rules, done: int) -> Iterator[Window]:
        """The windows of a rest, of whose global batches the first `done` are behind us."""
        while sizes := rules.sizes(self.count(rest)):
            kept = min(sum(sizes), len(rest.kept))
            after = Rest(rest.kept[kept:], rest.start + sum(sizes) - kept)
            if done < len(sizes):
                ordered = self._order.take(rest.start, after.start - rest.start)
                samples = np.concatenate([rest.kept[:kept], ordered])
                bins = plan(rules.cost(self._lengths[samples]), sizes, rules, (*self._key, after.start))
                yield Window(samples, bins, sizes, done, after)
            rest, done = after, max(0, done - len(sizes))

    def rest_after(self, rest: Rest, rules: Rules, done: int) -> Rest:
        """What is left of a rest after `done` global batches. Raises InvalidArgument as `check_done` does."""
        self.check_done(rest, rules, done)
        if done == 0:
            return rest
        window = next(self.windows(rest, rules, done))
        kept = window.samples[window.bins >= window.done * rules.world_size]
        return Rest(np.concatenate([kept, window.after.kept]), window.after.start)

    def check_done(self, rest: Rest, rules: Rules, done: int) -> None:
        """Raise InvalidArgument where so many global batches would have ended the epoch."""
        steps = rules.steps(self.count(rest))
        if done and done >= steps:
            raise InvalidArgument(f"the state is damaged: {done} steps of {steps} would have ended the epoch")


def plan(costs: Floats, sizes: list[int], rules: Rules, key: tuple[int, ...]) -> Ints:
    """Return step * world_size + rank of each sample, int64 (samples,).

    Whole global batches are made of parts of like cost, a rank each, and are put in an order by chance; a
    smaller one stays last.
    """
    shape = len(sizes), rules.world_size
    counts = np.concatenate([apportion(size, rules.speeds) for size in sizes])
    targets = np.outer(sizes, rules.speeds).ravel()
    least = np.maximum(counts - rules.skew, np.minimum(counts, 1))
    bins = longest_first(costs, Bins(targets, least, counts + rules.skew))
    full = (np.bincount(bins, costs, counts.size) / targets).reshape(shape)

    whole = sizes.count(rules.batch_size * rules.world_size)
    steps = np.tile(np.arange(len(sizes))[:, None], (1, rules.world_size))
    if whole:
        ranked = np.argsort(-full[:whole], axis=0, kind="stable")
        shuffled = Order(whole, key).take(0, whole)
        np.put_along_axis(steps, ranked, shuffled[:, None], axis=0)
    return (steps * rules.world_size + np.arange(rules.world_size)).ravel()[bins]


__all__ = ["Epoch", "Rest", "Rules", "Window", "plan"]
