"""Classes of unequal frequency: views in which they are even, and weights for a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire import InvalidArgument
from thinwire.data import ClassBalance, ElasticSampler, class_weights

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def uses(balance: ClassBalance, epochs: int, samples: int) -> Any:
    """How often each sample comes in so many epochs."""
    found = np.zeros(samples, np.int64)
    for epoch in range(epochs):
        balance.set_epoch(epoch)
        found += np.bincount(balance.take(range(len(balance))), minlength=samples)
    return found


@given(labels_of, st.sampled_from(["over", "under"]))
def test_classes_are_even_and_their_samples_too(labels: list[int], frequency: str) -> None:
    balance = ClassBalance(labels, frequency)
    sizes = np.bincount(labels)[balance.labels]
    wanted = sizes.max() if frequency == "over" else sizes.min()
    assert balance.counts.tolist() == [wanted] * len(sizes)
    assert len(balance) == wanted * len(sizes)
    for epochs in (1, 2, 5):
        found = uses(balance, epochs, len(labels))
        for label, _ in zip(balance.labels, sizes, strict=True):
            of_class = found[np.array(labels) == label]
            assert of_class.sum() == epochs * wanted
            assert of_class.max() - of_class.min() <= 1


def test_a_mapping_says_how_many_of_each() -> None:
    labels = ["cat"] * 7 + ["dog"] * 2 + ["eel"]
    balance = ClassBalance(labels, {"dog": 5, "cat": 3})
    found = [labels[sample] for sample in balance]
    assert (found.count("cat"), found.count("dog"), found.count("eel")) == (3, 5, 0)
    assert balance.counts.tolist() == [3, 5, 0]


def test_it_is_a_sequence_of_samples() -> None:
    balance = ClassBalance([0, 0, 0, 1], seed=3)
    everything = list(balance)
    assert len(balance) == len(everything) == 6
    assert sorted(everything) == [0, 1, 2, 3, 3, 3]
    assert (balance[-1], balance[1:3]) == (everything[-1], everything[1:3])
    with pytest.raises(IndexError):
        balance[6]
    with pytest.raises(InvalidArgument, match="places 0 to 6"):
        balance.take([0, 6])


def test_epochs_and_seeds_choose_other_samples() -> None:
    labels = [0] * 100 + [1] * 10
    balance = ClassBalance(labels, "under")
    first = list(balance)
    assert list(ClassBalance(labels, "under")) == first
    assert list(ClassBalance(labels, "under", seed=1)) != first
    balance.set_epoch(1)
    assert not set(balance) & set(first) & set(range(100))


def test_batches_of_a_sampler_are_translated() -> None:
    labels = np.array([0] * 50 + [1] * 5)
    balance = ClassBalance(labels, "over")
    samplers = [ElasticSampler(len(balance), 8, rank, 3) for rank in range(3)]
    parts = [balance.batches(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [5, 5, 5]
    taken = np.concatenate([batch.indices for part in parts for batch in part])
    assert np.bincount(labels[taken]).tolist() == [50, 50]
    assert [batch.weight for batch in parts[0]] == [batch.weight for batch in samplers[0]]


def test_torch_takes_it_for_a_subset() -> None:
    utils = pytest.importorskip("torch.utils.data")
    balance = ClassBalance([0, 0, 0, 1])
    subset = utils.Subset([10, 11, 12, 13], balance)
    assert sorted(subset[i] for i in range(len(subset))) == [10, 11, 12, 13, 13, 13]


def test_inverse_weights_give_every_class_the_same_part() -> None:
    counts = np.array([900, 90, 0, 10])
    weights = class_weights(counts)
    assert (weights * counts).tolist() == pytest.approx([1000 / 3, 1000 / 3, 0, 1000 / 3])


def test_effective_weights_lie_between_none_and_inverse() -> None:
    counts = np.array([900, 90, 10])
    for beta, wanted in ((0.0, [1, 1, 1]), (0.9999999, class_weights(counts) / class_weights(counts).mean())):
        assert class_weights(counts, "effective", beta) == pytest.approx(wanted, rel=1e-3)
    effective = class_weights([900, 90, 10], "effective", 0.99)
    number = (1 - 0.99 ** np.array([900, 90, 10])) / (1 - 0.99)
    assert effective == pytest.approx(3 / number / (1 / number).sum())
    assert class_weights([10**12, 1], "effective").min() > 0


@pytest.mark.parametrize(
    ("labels", "frequency", "message"),
    [
        ([], "over", "with one at least"),
        ([[1]], "over", "shape"),
        ([1], "both", "over, under"),
        ([1], {2: 3}, "no sample has the label 2"),
        ([1], {1: -1}, "frequency of 1 is -1"),
        ([1], {1: 0}, "no sample at all"),
    ],
)
def test_frequencies_that_do_not_fit(labels: Any, frequency: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        ClassBalance(labels, frequency)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([0, 0], {}, "not all 0"),
        ([-1, 1], {}, "counts are"),
        ([[1]], {}, "counts are"),
        ([1], {"method": "log"}, "method is 'log'"),
        ([1], {"method": "effective", "beta": 1.0}, "beta is 1.0"),
    ],
)
def test_weights_that_do_not_exist(counts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        class_weights(counts, **options)
