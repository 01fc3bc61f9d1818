"""Classes of unequal frequency: index views that even them out, and weights for a loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinwire.data.batches import Batch, checked_count
from thinwire.data.order import Order
from thinwire.errors import InvalidArgument

Ints = NDArray[np.int64]
STRATEGIES = ("over", "under")


class ClassBalance(Sequence[int]):
    """A data set seen so that its classes are as frequent as you say. No data is copied.

    Args:
        labels: the class of each sample, of any type that NumPy sorts, shape (samples,).
        frequency: "over" repeats samples until each class is as large as the largest; "under" takes as many
            of each as the smallest has; a mapping says how many to take of each label, none of others.
        seed: of the choice.

    Two samples of one class never differ by more than one in how often they come: neither in an epoch, nor
    in all epochs so far, since each goes on where the last one ended. So "under" shows every sample in time.

    `batches(sampler)` translates the batches of a sampler of `len(balance)` places;
    `torch.utils.data.Subset(dataset, balance)` is the balanced data set, of one epoch. It holds one index a
    sample. Raises InvalidArgument for arguments that do not fit.
    """

    def __init__(self, labels: ArrayLike, frequency: str | Mapping[Any, int] = "over", seed: int = 0) -> None:
        given = np.asarray(labels)
        if given.ndim != 1 or not len(given):
            raise InvalidArgument(
                f"labels have shape {given.shape}; it must be (samples,), with one at least"
            )
        self.labels, members, sizes = np.unique(given, return_inverse=True, return_counts=True)
        self._sizes = sizes.astype(np.int64)
        self.counts: Ints = self._wanted(frequency)
        """How many samples the view has of each of `labels`, int64 (classes,)."""
        self._ends = np.cumsum(self.counts)
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._members = np.argsort(members, kind="stable")
        checked_count("seed", seed, 0)
        for number, (first, size) in enumerate(zip(self._firsts, self._sizes, strict=True)):
            own = self._members[first : first + size]
            own[:] = own[Order(int(size), (seed, number)).take(0, int(size))]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose samples the view shows."""
        self.epoch = checked_count("epoch", epoch, 0)

    def take(self, places: ArrayLike) -> Ints:
        """Return the samples at places in 0 .. len - 1: int64 of the shape of `places`.

        Raises InvalidArgument for other places.
        """
        wanted = np.asarray(places, np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise InvalidArgument(
                f"places {wanted.min()} to {wanted.max()} are not all in 0 .. {len(self) - 1}"
            )
        classes = np.searchsorted(self._ends, wanted, side="right")
        counts = self.counts[classes]
        turn = self.epoch * counts + wanted - (self._ends[classes] - counts)
        found: Ints = self._members[self._firsts[classes] + turn % self._sizes[classes]]
        return found

    def batches(self, sampler: Iterable[Batch]) -> BalancedClasses:
        """The batches of a sampler of `len(self)` places, as batches of samples; weights stay."""
        return BalancedClasses(self, sampler)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        found = range(len(self))[place]
        return self.take(found).tolist()  # type: ignore[no-any-return]

    def _wanted(self, frequency: str | Mapping[Any, int]) -> Ints:
        if isinstance(frequency, Mapping):
            return self._listed(frequency)
        if frequency not in STRATEGIES:
            raise InvalidArgument(
                f"frequency is {frequency!r}; it must be one of {', '.join(STRATEGIES)}, or a mapping"
            )
        size = self._sizes.max() if frequency == "over" else self._sizes.min()
        return np.full(len(self._sizes), size, np.int64)

    def _listed(self, frequency: Mapping[Any, int]) -> Ints:
        labels = self.labels.tolist()
        unknown = set(frequency) - set(labels)
        if unknown:
            raise InvalidArgument(f"no sample has the label {sorted(unknown, key=str)[0]!r}")
        counts = [checked_count(f"frequency of {label!r}", frequency.get(label, 0), 0) for label in labels]
        if not any(counts):
            raise InvalidArgument("frequency takes no sample at all")
        return np.array(counts, np.int64)


class BalancedClasses:
    """What `ClassBalance.batches` returns: as long as the sampler, and translated anew at each iteration."""

    def __init__(self, balance: ClassBalance, sampler: Any) -> None:
        self._balance, self._sampler = balance, sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._sampler:
            yield Batch(self._balance.take(batch.indices), batch.weight)


def class_weights(counts: ArrayLike, method: str = "inverse", beta: float = 0.9999) -> NDArray[np.float64]:
    """Return a weight for each class, as losses take it: float64 of shape (classes,).

    `counts`: how many samples each class has; one without any gets weight 0.
    `method`: "inverse": the inverse frequency, so that every class has the same part in the sum over all
    samples, which stays as it was. "effective": the inverse of the effective number of samples,
    (1 - beta^n) / (1 - beta), by Cui et al., "Class-Balanced Loss Based on Effective Number of Samples"
    (CVPR 2019); the weights of the classes that occur have the mean 1. With beta near 1 it comes near the
    inverse frequency, with 0 all weigh the same.

    Raises InvalidArgument for arguments that do not fit.
    """
    n = np.asarray(counts, np.float64)
    if n.ndim != 1 or not np.isfinite(n).all() or (n < 0).any() or not n.any():
        raise InvalidArgument(f"counts are {counts!r}; pass how many samples each class has, not all 0")
    weights, occurs = np.zeros_like(n), n > 0
    if method == "inverse":
        weights[occurs] = n.sum() / (occurs.sum() * n[occurs])
    elif method == "effective":
        if not 0 <= beta < 1:
            raise InvalidArgument(f"beta is {beta!r}; it must be 0 or more and below 1")
        weights[occurs] = (1 - beta) / (1 - beta ** n[occurs])
        weights *= occurs.sum() / weights.sum()
    else:
        raise InvalidArgument(f"method is {method!r}; it must be inverse or effective")
    return weights


__all__ = ["ClassBalance", "class_weights"]
