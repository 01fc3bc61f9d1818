"""Samplers with the hook: the weighted mean of uneven batches is the mean of the whole global batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ddp.ranks import Ranks
from ddp.training import Net, attached, flat
from thinwire import InvalidArgument
from thinwire.data import BalancedBatchSampler, ClassBalance, ElasticSampler, WeightedShares

SAMPLES = 47


def _inputs() -> torch.Tensor:
    return torch.randn(SAMPLES, 64, generator=torch.Generator().manual_seed(1))


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double()


def _samplers(kind: str, world_size: int) -> list[Any]:
    """The samplers of all ranks; "few" leaves ranks without samples in the last step."""
    if kind == "balanced":
        lengths = np.arange(1, SAMPLES + 1) ** 2
        make = partial(BalancedBatchSampler, lengths, 4, world_size=world_size, skew=2)
    else:
        make = partial(ElasticSampler, SAMPLES, 1 if kind == "few" else 4, world_size=world_size)
    samplers = [make(rank=rank) for rank in range(world_size)]
    if kind == "shares":
        for sampler in samplers:
            sampler.set_shares(range(1, world_size + 1))
    return samplers


def _check_mean_gradients(rank: int, world_size: int, kind: str) -> None:
    """Every step's gradient is that of the same model on the whole global batch."""
    ddp, state = attached("raw")
    whole = Net()
    whole.load_state_dict(ddp.module.state_dict())
    inputs = _inputs()
    sizes = set()
    for batches in zip(*_samplers(kind, world_size), strict=True):
        mine = batches[rank]
        state.set_weight(mine.weight)
        ddp.zero_grad()
        out = ddp(inputs[mine.indices]).square().flatten(1).mean(1)
        (out.sum() / max(1, len(mine))).backward()
        whole.zero_grad()
        everybodys = torch.from_numpy(np.concatenate([batch.indices for batch in batches]))
        whole(inputs[everybodys]).square().mean().backward()
        torch.testing.assert_close(_gradient(ddp.module), _gradient(whole), rtol=1e-5, atol=1e-7)
        sizes.add(tuple(len(batch) for batch in batches))
    assert any(len(set(counts)) > 1 for counts in sizes), "no uneven step"
    state.close()


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("kind", ["even", "shares", "balanced", "few"])
def test_uneven_batches_give_the_gradient_of_the_whole(
    ranks: Callable[[int], Ranks], world_size: int, kind: str
) -> None:
    ranks(world_size)(_check_mean_gradients, world_size, kind)


def _check_shares_of_one_rank_whole(rank: int) -> None:
    """A rank whose shares are not the others' is found out: the weights do not add up to 1."""
    ddp, state = attached("raw")
    sampler = ElasticSampler(SAMPLES, 4, rank, 2)
    if rank == 1:
        sampler.set_shares([1, 3])
    batch = next(iter(sampler))
    state.set_weight(batch.weight)
    with pytest.raises(InvalidArgument, match="must add up to 1"):
        ddp(_inputs()[batch.indices]).mean().backward()
    state.close()


def test_ranks_with_other_shares_are_found_out(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_check_shares_of_one_rank_whole)


def _train_by_shares(rank: int) -> list[int]:
    """Rank 1 pretends to be three times as fast; returns the sizes of this rank's batches."""
    ddp, state = attached("raw")
    shares, sampler = WeightedShares(2, change=0.2), ElasticSampler(400, 10, rank, 2)
    inputs, sizes = torch.randn(400, 64), []
    loader = DataLoader(TensorDataset(inputs), batch_sampler=sampler)
    for (batch,) in loader:
        state.set_weight(sampler.weight)
        ddp(batch).square().mean().backward()
        sizes.append(len(batch))
        measured = torch.tensor([float(len(batch)), len(batch) / (1 + 2 * rank)])
        everybodys = [torch.empty(2) for _ in range(2)]
        torch.distributed.all_gather(everybodys, measured)
        samples, seconds = torch.stack(everybodys).T.tolist()
        sampler.set_shares(shares.update(samples, seconds), after=1)
        sampler.commit()
    assert sampler.epoch == 1
    assert torch.isfinite(flat(ddp)).all()
    state.close()
    return sizes


def test_a_job_settles_at_the_ranks_speeds(ranks: Callable[[int], Ranks]) -> None:
    slow, fast = ranks(2)(_train_by_shares)
    assert [a + b for a, b in zip(slow, fast, strict=True)] == [20] * 20
    assert (slow[0], slow[-1], fast[-1]) == (10, 5, 15)


def _committed(sampler: Any, loader: DataLoader[Any], steps: int) -> Iterator[int]:
    for _, (batch,) in zip(range(steps), loader, strict=False):
        yield from batch.tolist()
        sampler.commit()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_of_a_loader_fetch_ahead_and_nothing_is_lost(workers: int) -> None:
    dataset = TensorDataset(torch.arange(100))
    sampler = ElasticSampler(100, 7, 0, 1)
    seen = list(_committed(sampler, DataLoader(dataset, batch_sampler=sampler, num_workers=workers), 5))
    resumed = ElasticSampler(100, 3, 0, 1)
    resumed.load_state_dict(sampler.state_dict())
    loader = DataLoader(dataset, batch_sampler=resumed, num_workers=workers)
    seen += list(_committed(resumed, loader, len(loader)))
    assert sorted(seen) == list(range(100))
    assert (resumed.epoch, resumed.offset) == (1, 0)


def test_a_loader_takes_balanced_classes() -> None:
    labels = torch.tensor([0] * 30 + [1] * 3)
    balance = ClassBalance(labels.numpy(), "over")
    batches = balance.batches(ElasticSampler(len(balance), 4, 0, 1))
    loader = DataLoader(TensorDataset(labels), batch_sampler=batches)
    assert torch.cat([batch for (batch,) in loader]).bincount().tolist() == [30, 30]
