"""Which codecs are in use and when, what the report says, and a single rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ddp.ranks import Ranks
from ddp.training import Net, Weights, assert_replicas, attached, noise, train
from thinwire import InvalidArgument
from thinwire.ddp import HookState, attach


class _LanguageModel(nn.Module):
    """An embedding, a body, and a head with as many outputs as the embedding has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 64)
        self.body = Net()
        self.head = nn.Linear(64, 128, bias=False)
        self.unrelated = nn.Linear(64, 80)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.body(self.embedding(tokens))
        return self.head(x).sum() + self.unrelated(x).sum()


def _codecs_in_use(state: HookState, model: nn.Module) -> dict[str, str]:
    names = {id(p): name for name, p in model.named_parameters()}
    programs = state._engine._planner.programs()
    return {
        names[id(parameter)]: codec
        for program in programs
        for parameter, codec in zip(program.parameters, program.plan.description["codecs"], strict=True)
    }


def _policy(rank: int, vectors: int) -> list[dict[str, str]]:
    ddp, state = attached("sign1", _LanguageModel(), {"bucket_cap_mb": 25}, warmup=2, basis=vectors)
    found = []
    for step in range(4):
        tokens = torch.randint(0, 128, (8,), generator=torch.Generator().manual_seed(rank + step))
        ddp.zero_grad()
        ddp(tokens).backward()
        found.append(_codecs_in_use(state, ddp.module))
    state.close()
    return found


@pytest.mark.parametrize("vectors", [0, 4])
def test_policy_and_warm_up(ranks: Callable[[int], Ranks], vectors: int) -> None:
    for found in ranks(2)(_policy, vectors):
        for step, codecs in enumerate(found):
            matrices = {
                name: codec for name, codec in codecs.items() if "norm" not in name and "bias" not in name
            }
            assert {codec for name, codec in codecs.items() if name not in matrices} == {"bf16"}
            if not vectors:  # without a basis embedding and head are left to a finer codec
                assert matrices.pop("embedding.weight") == matrices.pop("head.weight") == "int8"
            sign1 = f"sign1:block=1024, basis of {vectors} x" if vectors else "sign1"
            assert all(codec.startswith("int4" if step < 2 else sign1) for codec in matrices.values())
            assert len(matrices) == (6 if vectors else 4)


def _report(rank: int) -> tuple[dict[str, Any], str]:
    ddp, state = attached("int8", Weights((1000, 1000), (1000, 1000)))
    gradients = [noise(rank, i, 1000, 1000) for i in range(2)]
    for _ in range(17):
        ddp.zero_grad()
        ddp(gradients).backward()
    report = state.report()
    state.close()
    return report.as_dict(), str(report)


def test_the_report(ranks: Callable[[int], Ranks]) -> None:
    for values, text in ranks(2)(_report):
        assert values["steps"] == 15  # since DDP rebuilt its buckets
        assert values["bytes_plain"] == 8_000_000
        assert values["ratio"] == pytest.approx(4 / 1.0078, rel=0.01)
        assert 0.001 < values["relative_error"] < 0.02
        assert all(seconds > 0 for seconds in values["seconds"].values())
        assert values["bytes_per_second"] > 1e6
        assert values["pays"] in (True, False)
        assert "7.629 MiB" in text
        assert len(text.splitlines()) > 8


def _report_in_backward(rank: int) -> None:
    ddp, state = attached("int8")
    ddp.module.first.weight.register_hook(lambda gradient: state.report() and None)
    train(ddp, rank, 3)
    assert_replicas(ddp)
    assert state.state_dict()["step"] == 3
    state.close()


def test_a_report_in_the_middle_of_backward(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_report_in_backward)


def _single(rank: int) -> None:
    lonely = [dist.new_group([r]) for r in range(dist.get_world_size())][rank]
    model = Weights((80, 80), (9,))
    ddp = DistributedDataParallel(model, process_group=lonely)
    state = attach(ddp, "sign1")
    gradients = [noise(rank, 0, 80, 80), noise(rank, 1, 9)]
    ddp(gradients).backward()
    for parameter, gradient in zip(model.weights, gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    assert state.state_dict()["residuals"] == {}
    state.set_weight(1)
    with pytest.raises(InvalidArgument, match="has weight 1"):
        state.set_weight(0.5)
    state.load_state_dict(state.state_dict())
    state.close()

    forced = DistributedDataParallel(Weights((80, 80), (9,)), process_group=lonely)
    state = attach(forced, "sign1", warmup=0, force=True)
    given, delivered = torch.zeros(80, 80).double(), torch.zeros(80, 80).double()
    for step in range(3):
        gradient = noise(rank, step, 80, 80)
        forced.zero_grad()
        forced([gradient, gradients[1]]).backward()
        given += gradient
        delivered += forced.module.weights[0].grad
    residual = state.state_dict()["residuals"]["weights.0"]
    assert residual.norm() > 1
    assert (delivered + residual - given).norm() < 1e-6 * given.norm()
    state.close()


def test_a_single_rank(ranks: Callable[[int], Ranks]) -> None:
    """Nothing happens to the bucket, unless everything is forced to run."""
    ranks(2)(_single)
