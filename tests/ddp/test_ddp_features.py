"""Everything DDP offers works with the hook, or is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    Weights,
    assert_like_plain_ddp,
    assert_replicas,
    attached,
    flat,
    make_ddp,
    noise,
    plain_step,
    train,
)
from thinwire import InvalidArgument
from thinwire.ddp import HookState, attach, comm_hook


def _accumulate(ddp: DistributedDataParallel, rank: int, step: int) -> None:
    with ddp.no_sync():
        plain_step(ddp, rank, step)
    plain_step(ddp, rank, step + 100)


def _skip_middle_sometimes(ddp: DistributedDataParallel, rank: int, step: int) -> None:
    skip = (step + rank) % 2 == 0 if step < 3 else True  # first on one rank, then on both
    ddp(noise(rank, step, 4, 64), skip).square().mean().backward()


class _SumOverRanks(torch.autograd.Function):
    """A user's own collectives, in forward and in backward, as SyncBatchNorm's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


class _SyncNet(Net):
    """A net whose layers talk to the other ranks, with buffers that DDP broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(96)

    def forward(self, x: torch.Tensor, skip_middle: bool = False) -> torch.Tensor:
        x = self.batch_norm(self.norm(self.first(x).relu()))
        x = x - _SumOverRanks.apply(x.mean(0, keepdim=True)) / 2
        return self.last(self.middle(x).relu())


class _MixedNet(nn.Module):
    """Parameters of three dtypes, which DDP puts into different buckets."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 96)
        self.second = nn.Linear(96, 96, dtype=torch.bfloat16)
        self.third = nn.Linear(96, 64, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(x).bfloat16()).double())


class _ComplexNet(nn.Module):
    """A complex matrix, whose gradient DDP takes for pairs of real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 80, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(torch.complex64) @ self.weight).abs()


class _ConvNet(nn.Module):
    """Weights whose memory order is not their logical order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 48, 3).to(memory_format=torch.channels_last)
        self.last = nn.Linear(48 * 4, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.conv(x.reshape(-1, 16, 2, 2).repeat(1, 1, 2, 2)).flatten(1))


LIKE_PLAIN: dict[str, tuple[Any, ...]] = {
    "no_sync": (_accumulate, Net, {}),
    "find_unused_parameters": (_skip_middle_sometimes, Net, {"find_unused_parameters": True}),
    "static_graph": (plain_step, Net, {"static_graph": True}),
    "gradient_as_bucket_view": (plain_step, Net, {"gradient_as_bucket_view": True}),
    "one bucket": (plain_step, Net, {"bucket_cap_mb": 25}),
    "collectives of others": (plain_step, _SyncNet, {"find_unused_parameters": True}),
    "mixed dtypes": (plain_step, _MixedNet, {}),
    "complex parameters": (plain_step, _ComplexNet, {}),
    "channels_last": (plain_step, _ConvNet, {}),
}


def _like_plain(rank: int, name: str) -> None:
    step, model, options = LIKE_PLAIN[name]
    assert_like_plain_ddp(rank, step, model, **options)


@pytest.mark.parametrize("name", LIKE_PLAIN)
def test_like_plain_ddp(ranks: Callable[[int], Ranks], name: str) -> None:
    if name == "mixed dtypes":
        ranks(2)(_mixed_dtypes)
    else:
        ranks(2)(_like_plain, name)


def _mixed_dtypes(rank: int) -> None:
    """bf16 gradients are rounded elsewhere than in plain DDP, so these are only near."""
    torch.manual_seed(0)
    ddp, plain = make_ddp(_MixedNet()), make_ddp(_MixedNet())
    plain.load_state_dict(ddp.state_dict())
    state = attach(ddp, "int8")
    for model in (ddp, plain):
        train(model, rank, 5)
    assert_replicas(ddp)
    assert (flat(ddp) - flat(plain)).norm() < 0.02 * flat(plain).norm()
    assert set(state.state_dict()["residuals"]) == {"first.weight", "second.weight"}  # fp64 is not compressed
    state.close()


def _fp64(rank: int) -> None:
    def run(codec: str | None) -> DistributedDataParallel:
        torch.manual_seed(0)
        ddp = make_ddp(Net().double())
        state = attach(ddp, codec) if codec else None
        train(
            ddp,
            rank,
            3,
            lambda ddp, rank, step: ddp(noise(rank, step, 4, 64).double()).abs().mean().backward(),
        )
        assert_replicas(ddp)
        if state is not None:
            assert state.state_dict()["residuals"] == {}
            state.close()
        return ddp

    for one, other in zip(run(None).parameters(), run("int8").parameters(), strict=True):
        assert torch.equal(one, other)


def test_fp64_is_summed_as_it_is(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_fp64)


def _fp16_and_bf16(rank: int, dtype: torch.dtype) -> None:
    gradients = [noise(rank, i, *shape).to(dtype) for i, shape in enumerate([(100, 70), (33,)])]
    model = Weights((100, 70), (33,), dtype=dtype)
    ddp, state = attached("int8", model)
    ddp(gradients).backward()
    for parameter, gradient in zip(model.weights, gradients, strict=True):
        mean = gradient.float() / 2
        dist.all_reduce(mean)
        assert parameter.grad.dtype == dtype
        assert (parameter.grad.float() - mean).norm() < 0.02 * mean.norm()
    assert_replicas(nn.ParameterList([nn.Parameter(p.grad) for p in model.weights]))
    state.close()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_gradients(ranks: Callable[[int], Ranks], dtype: torch.dtype) -> None:
    ranks(2)(_fp16_and_bf16, dtype)


def _unused_residual(rank: int) -> None:
    """A parameter without a gradient sends nothing and keeps what it withheld."""
    model = Weights((80, 80), (80, 80))
    ddp, state = attached("sign1", model, {"find_unused_parameters": True}, warmup=0)
    used = [noise(rank, 0, 80, 80), noise(rank, 1, 80, 80)]
    ddp(used).backward()
    before = state.state_dict()["residuals"]
    ddp.zero_grad()
    ddp([used[0], torch.zeros(80, 80)]).backward()
    after = state.state_dict()["residuals"]
    assert not torch.equal(before["weights.0"], after["weights.0"])
    # As an owner it may still round what others send; here nobody sends anything.
    assert torch.equal(before["weights.1"], after["weights.1"])
    assert not model.weights[1].grad.any()
    state.close()


def test_an_unused_parameter_keeps_its_residual(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_unused_residual)


def _one_rank_without_gradient(rank: int) -> None:
    """What one rank withholds is not sent while it has no gradient, and is not lost either."""
    model = Weights((80, 80))
    ddp, state = attached("int4", model)
    given = torch.zeros(80, 80, dtype=torch.float64)
    delivered = torch.zeros(80, 80, dtype=torch.float64)
    for step in range(4):
        gradient = noise(rank, step, 80, 80) if rank == 0 or step % 2 == 0 else torch.zeros(80, 80)
        ddp.zero_grad()
        ddp([gradient]).backward()
        given += gradient.double() / 2
        delivered += model.weights[0].grad.double()
    total = given - state.state_dict()["residuals"]["weights.0"].double()
    dist.all_reduce(total)
    assert (delivered - total).norm() < 1e-6 * total.norm()
    state.close()


def test_no_gradient_on_one_rank(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_one_rank_without_gradient)


def _sub_group(rank: int) -> None:
    group = dist.new_group([0, 2])
    lonely = dist.new_group([1])
    torch.manual_seed(0)
    ddp = DistributedDataParallel(Net(), process_group=lonely if rank == 1 else group, bucket_cap_mb=0.05)
    state = attach(ddp, "int8")
    train(ddp, rank, 4)
    if rank != 1:
        assert_replicas(ddp, group)
        assert state.report().as_dict()["world_size"] == 2
    else:
        assert state.report().as_dict()["bytes_sent"] == 0
    state.close()


def test_a_sub_group(ranks: Callable[[int], Ranks]) -> None:
    """Ranks that are members of different numbers of groups agree on their private ones."""
    ranks(3)(_sub_group)


def _join(rank: int, transport: str, verify_every: int) -> None:
    torch.manual_seed(0)
    ddp, state = attached("int8", transport=transport, verify_every=verify_every)
    plain = make_ddp()
    for model in (ddp, plain):
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        with Join([model]):
            for step in range(3 + 3 * rank):
                optimizer.zero_grad()
                plain_step(model, rank, step)
                optimizer.step()
    assert_replicas(ddp)
    assert (flat(ddp) - flat(plain)).norm() < 0.02 * flat(plain).norm()
    train(ddp, rank, 2)
    state.close()


@pytest.mark.parametrize(("transport", "verify_every"), [("native", 0), ("native", 1), ("c10d", 1)])
def test_join(ranks: Callable[[int], Ranks], transport: str, verify_every: int) -> None:
    """A rank that has joined does not train, so that its replica may differ until the others have joined."""
    ranks(2)(_join, transport, verify_every)


def _join_dividing_by_the_rest(rank: int) -> None:
    ddp, state = attached("int8")
    refused = pytest.raises(InvalidArgument, match="divide_by_initial_world_size")
    with refused, ddp.join(divide_by_initial_world_size=False):
        plain_step(ddp, rank, 0)
    state.close()


def test_join_that_divides_by_the_ranks_left_is_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_join_dividing_by_the_rest)


def _zero_optimizer(rank: int) -> None:
    ddp, state = attached("int8")
    optimizer = ZeroRedundancyOptimizer(ddp.parameters(), torch.optim.Adam, lr=1e-3)
    for step in range(4):
        optimizer.zero_grad()
        plain_step(ddp, rank, step)
        optimizer.step()
    assert_replicas(ddp)
    state.close()


def test_zero_redundancy_optimizer(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_zero_optimizer)


def _compiled(rank: int) -> None:
    torch.manual_seed(0)
    ddp = make_ddp(Net(256), bucket_cap_mb=1)
    plain = make_ddp(Net(256), bucket_cap_mb=1)
    plain.load_state_dict(ddp.state_dict())
    state = attach(ddp, "raw")
    compiled = torch.compile(ddp, backend="aot_eager")
    optimizer = torch.optim.SGD(ddp.parameters(), 0.05, momentum=0.9)
    for step in range(3):
        optimizer.zero_grad()
        plain_step(compiled, rank, step)
        optimizer.step()
    train(plain, rank, 3)
    assert_replicas(ddp)
    assert torch.allclose(flat(ddp), flat(plain), atol=1e-6)
    assert state.report().as_dict()["steps"] > 0
    state.close()


def test_compiled_ddp(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_compiled)


def _sparse(rank: int) -> None:
    model = nn.EmbeddingBag(100, 64, sparse=True)
    with pytest.raises(InvalidArgument, match="sparse"):
        attach(DistributedDataParallel(model))
    ddp = DistributedDataParallel(nn.EmbeddingBag(100, 64, sparse=True))
    state = HookState("int8")  # does not know the model
    ddp.register_comm_hook(state, comm_hook)
    with pytest.raises(InvalidArgument, match="sparse"):
        ddp(torch.tensor([[1, 2], [3, 4]])).sum().backward()
    state.close()


def test_sparse_gradients_are_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_sparse)
