"""BalancedBatchSampler: equal costs, every sample once an epoch, the same plan on all ranks, states."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.histories import live
from thinwire import InvalidArgument
from thinwire.data import BalancedBatchSampler, Batch, Cost, ElasticSampler
from thinwire.data.packing import Bins, longest_first

QUADRATIC = Cost(1.0, 1 / 1000)


def long_tailed(samples: int, seed: int = 0) -> NDArray[np.int64]:
    """Lengths as those of texts: most short, a few very long."""
    lengths = np.random.default_rng(seed).lognormal(5, 1.2, samples)
    return np.minimum(lengths, 4096).astype(np.int64) + 1


def steps_of(
    lengths: Any, batch_size: int, world_size: int, cost: Cost | None = None, **options: Any
) -> list[tuple[Batch, ...]]:
    """The batches of all ranks, step by step."""
    make = partial(BalancedBatchSampler, lengths, batch_size, world_size=world_size, cost=cost, **options)
    return list(zip(*(make(rank=rank) for rank in range(world_size)), strict=True))


def costs_of(steps: list[tuple[Batch, ...]], lengths: Any, cost: Cost) -> NDArray[np.float64]:
    """(steps, ranks)."""
    return np.array([[cost(lengths[batch.indices]).sum() for batch in step] for step in steps])


@pytest.mark.parametrize("cost", [Cost(), QUADRATIC], ids=["linear", "quadratic"])
@pytest.mark.parametrize("skew", [0, 4])
def test_all_ranks_cost_the_same_in_every_step(cost: Cost, skew: int) -> None:
    lengths = long_tailed(8 * 32 * 70)
    costs = costs_of(steps_of(lengths, 32, 8, cost, skew=skew), lengths, cost)
    assert costs.max(axis=1).sum() <= 1.02 * costs.mean(axis=1).sum()
    assert (costs.max(axis=1) / costs.mean(axis=1)).max() < 1.1
    by_chance = [ElasticSampler(len(lengths), 32, rank, 8) for rank in range(8)]
    unbalanced = costs_of(list(zip(*by_chance, strict=True)), lengths, cost)
    assert unbalanced.max(axis=1).sum() > 1.2 * unbalanced.mean(axis=1).sum()


def test_samples_as_long_as_whole_batches_meet() -> None:
    lengths = long_tailed(8 * 32 * 64)
    lengths[::800] = 100_000
    costs = costs_of(steps_of(lengths, 32, 8), lengths, Cost())
    spread = costs.max(axis=1) / costs.mean(axis=1)
    assert (costs.max(axis=1) > 100_000).sum() <= 4  # 21 of them, 8 a step
    assert np.median(spread) < 1.01


@pytest.mark.parametrize("size", [1, 3, 23, 24, 25, 26, 27, 47, 100])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_sample_comes_once(size: int, drop_last: bool) -> None:
    steps = steps_of(long_tailed(size), 8, 3, drop_last=drop_last, window=2)
    given_out = [index for step in steps for batch in step for index in batch]
    assert len(set(given_out)) == len(given_out) == (size // 24 * 24 if drop_last else size)
    assert len(steps) == (size // 24 if drop_last else -(-size // 24))
    for step in steps:
        sizes = [len(batch) for batch in step]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= (1 if size >= 3 else 0)
        assert [batch.weight for batch in step] == [n / sum(sizes) for n in sizes]


@given(st.integers(0, 2**32 - 1))
def test_counts_stay_within_the_skew(seed: int) -> None:
    chance = random.Random(seed)
    batch_size, world_size, skew = chance.randint(1, 9), chance.randint(1, 5), chance.randint(0, 9)
    speeds = [chance.choice([1.0, 1.0, 0.5, 3.0]) for _ in range(world_size)]
    lengths = long_tailed(chance.randint(1, 200), seed)
    steps = steps_of(lengths, batch_size, world_size, skew=skew, speeds=speeds, window=chance.randint(1, 9))
    assert sorted(i for step in steps for batch in step for i in batch) == list(range(len(lengths)))
    for step in steps[:-2]:
        for batch, speed in zip(step, speeds, strict=True):
            wanted = batch_size * world_size * speed / sum(speeds)
            assert 1 <= len(batch) <= wanted + skew + 2
            assert len(batch) >= wanted - skew - 2


def test_faster_ranks_do_more() -> None:
    lengths, speeds = long_tailed(64 * 128), [1.0, 2.0, 4.0, 1.0]
    steps = steps_of(lengths, 32, 4, QUADRATIC, speeds=speeds)
    seconds = costs_of(steps, lengths, QUADRATIC) / speeds
    assert seconds.max(axis=1).sum() < 1.02 * seconds.mean(axis=1).sum()
    assert [len(batch) for batch in steps[0]] == [16, 32, 64, 16]
    assert [batch.weight for batch in steps[0]] == [0.125, 0.25, 0.5, 0.125]


def test_weights_are_shares_of_what_the_loss_is_the_mean_over() -> None:
    lengths = long_tailed(100)
    for step in steps_of(lengths, 8, 3, skew=3, mean_over="lengths"):
        totals = [int(lengths[batch.indices].sum()) for batch in step]
        assert [batch.weight for batch in step] == [total / sum(totals) for total in totals]


def test_batches_follow_from_seed_and_epoch() -> None:
    lengths = long_tailed(2000)
    sampler = BalancedBatchSampler(lengths, 8, 0, 2, window=4)
    first = list(sampler)
    assert list(BalancedBatchSampler(lengths, 8, 0, 2, window=4)) == first
    assert list(BalancedBatchSampler(lengths, 8, 0, 2, window=4, seed=1)) != first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_long_and_short_steps_come_in_an_order_by_chance() -> None:
    lengths = long_tailed(8 * 32 * 64)
    costs = costs_of(steps_of(lengths, 32, 8), lengths, Cost()).sum(axis=1)
    assert abs(np.corrcoef(costs, np.arange(len(costs)))[0, 1]) < 0.4


def live_history(seed: int) -> None:
    chance = random.Random(seed)
    lengths = long_tailed(chance.choice([chance.randint(1, 12), chance.randint(1, 200)]), seed)

    def make(batch_size: int, rank: int, world_size: int) -> BalancedBatchSampler:
        rules = {"skew": batch_size % 3, "window": 1 + world_size}
        return BalancedBatchSampler(lengths, batch_size, rank, world_size, QUADRATIC, seed, **rules)

    live(make, len(lengths), 2, chance)


def test_every_sample_comes_once_an_epoch_in_any_history() -> None:
    for seed in range(200):
        live_history(seed)


@pytest.mark.torture
def test_every_sample_comes_once_an_epoch_in_many_histories() -> None:
    for seed in range(200, 5000):
        live_history(seed)


def test_the_same_rules_resume_with_the_same_batches() -> None:
    lengths = long_tailed(1000)
    sampler = BalancedBatchSampler(lengths, 4, 1, 3, window=5)
    batches = list(sampler)
    sampler.commit(13)
    assert list(sampler) == batches[13:]
    state = json.dumps(sampler.state_dict())
    assert len(state) < 400
    resumed = BalancedBatchSampler(lengths, 4, 1, 3, window=5)
    resumed.load_state_dict(json.loads(state))
    assert (len(resumed), list(resumed)) == (len(batches) - 13, batches[13:])
    assert json.dumps(resumed.state_dict()) == state


def test_the_tail_of_a_resumed_epoch_can_be_too_small_to_keep() -> None:
    lengths = long_tailed(100)
    sampler = BalancedBatchSampler(lengths, 10, 0, 2, drop_last=True)
    sampler.commit(4)
    resumed = BalancedBatchSampler(lengths, 15, 0, 2, drop_last=True)
    resumed.load_state_dict(sampler.state_dict())
    assert (resumed.epoch, len(resumed)) == (1, 3)


def test_a_damaged_or_foreign_state_changes_nothing() -> None:
    lengths = long_tailed(100)
    sampler = BalancedBatchSampler(lengths, 4, 0, 2)
    good = sampler.state_dict()
    sampler.commit()
    before = sampler.state_dict()
    others = BalancedBatchSampler(lengths + 1, 4, 0, 2).state_dict()
    (part,) = good["parts"]
    wrong: list[Any] = [None, {}, others, {**good, "size": 99}, {**good, "version": 0}, {**good, "seed": -1}]
    wrong += [{**good, "parts": parts} for parts in (None, [], [{}], [{**part, "steps": -1}], [7])]
    wrong += [{**good, "parts": [{"steps": 1, "rules": {**part["rules"], "skew": "x"}}]}]
    wrong += [{**good, "parts": [{"steps": 13, "rules": part["rules"]}]}]
    for state in wrong:
        with pytest.raises(InvalidArgument):
            sampler.load_state_dict(state)
        assert sampler.state_dict() == before


def test_a_weight_belongs_to_a_batch_that_was_given_out() -> None:
    sampler = BalancedBatchSampler(long_tailed(100), 4, 0, 2)
    with pytest.raises(InvalidArgument, match="no batch has been given out"):
        _ = sampler.weight
    with pytest.raises(InvalidArgument, match="epoch 0 has only 13 batches left"):
        sampler.commit(14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": []}, "shape \\(0,\\); pass one number a sample"),
        ({"lengths": [[1, 2]]}, "shape"),
        ({"lengths": ["a"]}, "pass one number"),
        ({"lengths": [1, 2, 0]}, "length of sample 2 is 0"),
        ({"lengths": [1.0, float("inf")]}, "length of sample 1 is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2}, "rank is 2"),
        ({"skew": -1}, "skew is -1"),
        ({"speeds": [1]}, "2 positive numbers"),
        ({"window": 0}, "window is 0"),
        ({"mean_over": "tokens"}, "mean_over is 'tokens'"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    fitting = {"lengths": [1, 2, 3], "batch_size": 1, "rank": 0, "world_size": 2}
    with pytest.raises(InvalidArgument, match=message):
        BalancedBatchSampler(**{**fitting, **options})


def test_the_longest_come_first() -> None:
    bins = Bins(np.ones(2), np.array([0, 0]), np.array([9, 9]))
    found = longest_first(np.array([3.0, 5.0, 4.0, 3.0, 3.0]), bins)
    assert found.tolist() == [1, 0, 1, 0, 1]  # loads 5 and 4, then 5 and 7, 8 and 7, 8 and 10


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=60), st.integers(1, 7))
def test_longest_first_keeps_grahams_bound(costs: list[float], count: int) -> None:
    free = Bins(np.ones(count), np.zeros(count, np.int64), np.full(count, len(costs)))
    loads = np.bincount(longest_first(np.array(costs), free), costs, count)
    least = max(sum(costs) / count, max(costs))
    assert loads.max() <= (4 / 3 + 1) * least
    assert loads.max() <= sum(costs) / count + max(costs)


@given(st.integers(0, 2**32 - 1))
def test_bins_take_what_they_must_and_may(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 8))
    least = random.integers(0, 5, count)
    most = least + random.integers(0, 5, count)
    if most.sum() == 0:
        return
    samples = int(random.integers(max(1, least.sum()), most.sum() + 1))
    found = longest_first(random.exponential(1, samples), Bins(random.uniform(0.5, 2, count), least, most))
    taken = np.bincount(found, minlength=count)
    assert ((least <= taken) & (taken <= most)).all()
