"""ElasticSampler: what a rank gets, the cursor, states; every sample once an epoch in any history."""

from __future__ import annotations

import json
import pickle
import random
from functools import partial
from typing import Any

import numpy as np
import pytest

from data.histories import live
from thinwire import InvalidArgument
from thinwire.data import Batch, ElasticSampler


def job(size: int, batch_size: int, world_size: int, **options: Any) -> list[ElasticSampler]:
    """The samplers of all ranks."""
    return [ElasticSampler(size, batch_size, rank, world_size, **options) for rank in range(world_size)]


def steps_of(samplers: list[ElasticSampler]) -> list[tuple[Batch, ...]]:
    """The batches of all ranks, step by step."""
    return list(zip(*samplers, strict=True))


def flat(batches: tuple[Batch, ...]) -> list[int]:
    """The samples of a global batch."""
    return [index for batch in batches for index in batch]


def live_history(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([chance.randint(1, 12), chance.randint(1, 300)])
    live(partial(ElasticSampler, size, seed=seed % 10, shuffle=seed % 10 != 9), size, 2, chance)


def test_every_sample_comes_once_an_epoch_in_any_history() -> None:
    for seed in range(2000):
        live_history(seed)


@pytest.mark.torture
def test_every_sample_comes_once_an_epoch_in_ten_thousand_histories() -> None:
    for seed in range(2000, 12_000):
        live_history(seed)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_ranks_share_every_global_batch_evenly(batch_size: int, world_size: int) -> None:
    for size in range(1, 3 * batch_size * world_size + 2):
        steps = steps_of(job(size, batch_size, world_size))
        assert len(steps) == -(-size // (batch_size * world_size))
        for number, batches in enumerate(steps):
            sizes = [len(batch) for batch in batches]
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= batch_size
            assert [batch.weight for batch in batches] == [n / sum(sizes) for n in sizes]
            if number + 2 < len(steps):
                assert sizes == [batch_size] * world_size
            if batch_size > 1 and size >= world_size:
                assert min(sizes) >= 1
        assert sorted(i for batches in steps for i in flat(batches)) == list(range(size))


def test_global_batches_do_not_depend_on_how_they_are_divided() -> None:
    few, many = steps_of(job(1000, 12, 2)), steps_of(job(1000, 3, 8))
    assert [flat(batches) for batches in few] == [flat(batches) for batches in many]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sampler = ElasticSampler(500, 500, 0, 1)
    orders = []
    for epoch in range(3):
        assert sampler.epoch == epoch
        orders.append(next(iter(sampler)))
        sampler.commit()
    orders.append(next(iter(ElasticSampler(500, 500, 0, 1, seed=1))))
    assert len({tuple(order) for order in orders}) == 4
    sampler.set_epoch(1)
    assert next(iter(sampler)) == orders[1]
    (in_order,) = ElasticSampler(5, 9, 0, 1, shuffle=False)
    assert in_order == [0, 1, 2, 3, 4]


def test_only_commits_move_the_cursor() -> None:
    sampler = ElasticSampler(100, 4, 1, 2)
    batches = list(sampler)
    assert (len(sampler), list(sampler)) == (13, batches)
    sampler.commit()
    sampler.commit(3)
    assert (sampler.offset, len(sampler), list(sampler)) == (32, 9, batches[4:])
    ahead = iter(sampler)
    assert next(ahead) == batches[4]
    sampler.commit()
    assert next(ahead) == batches[5]
    sampler.commit(0)
    assert sampler.offset == 40


def test_setting_the_epoch_of_the_cursor_keeps_its_place() -> None:
    sampler = ElasticSampler(100, 4, 0, 2)
    sampler.commit(2)
    sampler.set_epoch(0)
    assert sampler.offset == 16
    sampler.set_epoch(7)
    assert (sampler.epoch, sampler.offset) == (7, 0)


def test_too_many_commits_are_refused() -> None:
    sampler = ElasticSampler(20, 4, 0, 2)
    with pytest.raises(InvalidArgument, match="epoch 0 has only 3 batches left"):
        sampler.commit(4)
    assert (sampler.epoch, sampler.offset) == (0, 0)
    sampler.commit(3)
    assert (sampler.epoch, sampler.offset) == (1, 0)


def test_a_state_is_small_json_and_the_same_on_all_ranks() -> None:
    samplers = job(10**10, 64, 4, seed=5)
    for sampler in samplers:
        sampler.commit(3)
    states = {json.dumps(sampler.state_dict()) for sampler in samplers}
    assert len(states) == 1
    state = states.pop()
    assert len(state) < 120
    resumed = ElasticSampler(10**10, 1000, 2, 3)
    resumed.load_state_dict(json.loads(state))
    assert resumed.state_dict() == json.loads(state)


def test_a_damaged_or_foreign_state_changes_nothing() -> None:
    good = ElasticSampler(100, 4, 0, 2).state_dict()
    sampler = ElasticSampler(100, 4, 0, 2)
    sampler.commit()
    before = sampler.state_dict()
    wrong: list[Any] = [None, {}, [], {**good, "version": 2}, {**good, "size": 101}, {**good, "offset": 100}]
    wrong += [{**good, name: value} for name in ("epoch", "offset", "seed") for value in (-1, "1", None, 0.5)]
    wrong += [{**good, "shuffle": 1}, {key: good[key] for key in good if key != "epoch"}]
    for state in wrong:
        with pytest.raises(InvalidArgument):
            sampler.load_state_dict(state)
        assert sampler.state_dict() == before
    with pytest.raises(InvalidArgument, match="the state is of 101 samples, and this sampler of 100"):
        sampler.load_state_dict({**good, "size": 101})


def test_shares_divide_global_batches_and_nothing_else() -> None:
    samplers, even = job(1000, 10, 3), job(1000, 10, 3)
    for sampler in samplers:
        sampler.set_shares([1, 2, 3], after=2)
    for number, (batches, same) in enumerate(zip(steps_of(samplers), steps_of(even), strict=True)):
        assert flat(batches) == flat(same)
        sizes = [len(batch) for batch in batches]
        assert sizes == ([10, 10, 10] if number < 2 else [5, 10, 15] if number < 33 else [2, 3, 5])
        assert [batch.weight for batch in batches] == [n / sum(sizes) for n in sizes]


def test_later_shares_hold_from_their_batch_on() -> None:
    sampler = ElasticSampler(1000, 10, 0, 2)
    sampler.set_shares([3, 1], after=1)
    sampler.commit(2)
    sampler.set_shares([1, 3], after=2)
    sampler.set_shares([1, 4], after=4)
    assert [len(batch) for _, batch in zip(range(6), sampler, strict=False)] == [15, 15, 5, 5, 4, 4]
    sampler.set_shares([1, 1], after=6)
    assert sampler.weight == 0.75
    sampler.set_epoch(1)
    assert sampler.weight == 0.5


def test_shares_come_too_late_for_batches_that_were_given_out() -> None:
    sampler = ElasticSampler(1000, 10, 0, 2)
    ahead = iter(sampler)
    for _ in range(4):
        next(ahead)
    sampler.commit()
    with pytest.raises(InvalidArgument, match="fetched ahead"):
        sampler.set_shares([1, 3], after=2)
    sampler.set_shares([1, 3], after=3)
    assert len(next(ahead)) == 5
    assert len(next(iter(sampler))) == 10


def test_a_batch_survives_the_way_to_a_worker() -> None:
    batch = next(iter(ElasticSampler(100, 4, 0, 2)))
    copy = pickle.loads(pickle.dumps(batch))
    assert (copy, copy.weight, copy.indices.tolist()) == (batch, 0.5, list(batch))
    assert all(type(index) is int for index in batch)
    assert batch.indices.dtype == np.int64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0, 1), "size is 0"),
        ((2**62 + 1, 1, 0, 1), "up to 2\\^62"),
        ((10, 0, 0, 1), "batch_size is 0"),
        ((10, 1.5, 0, 1), "batch_size is 1.5"),
        ((10, True, 0, 1), "batch_size is True"),
        ((10, 1, 0, 0), "world_size is 0"),
        ((10, 1, 3, 3), "rank is 3; of 3 ranks the last is 2"),
        ((10, 1, -1, 3), "rank is -1"),
        ((10, 1, 0, 1, -1), "seed is -1"),
    ],
)
def test_arguments_that_do_not_fit(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        ElasticSampler(*arguments)


@pytest.mark.parametrize("shares", [[1], [1, 2, 3], [1, 0], [1, -1], [1, float("nan")], "ab", None, 3])
def test_shares_that_do_not_fit(shares: Any) -> None:
    with pytest.raises(InvalidArgument, match="2 positive numbers"):
        ElasticSampler(10, 1, 0, 2).set_shares(shares)
