"""What a HookState refuses: arguments, modules, and being used by two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import (
    Net,
    assert_replicas,
    assert_same_tensors,
    attached,
    error_of,
    make_ddp,
    noise,
    plain_step,
    train,
)
from thinwire import Error, InvalidArgument
from thinwire.ddp import HookState, attach, comm_hook


def _closed(rank: int) -> None:
    ddp, state = attached("int8")
    train(ddp, rank, 2)
    state.close()
    state.close()
    with pytest.raises(InvalidArgument, match="closed"):
        plain_step(ddp, rank, 2)


def test_a_closed_state_refuses(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_closed)


def _two_models(rank: int, with_model: bool) -> None:
    ddp, other = make_ddp(), make_ddp(seed=1)
    state = HookState("int8", model=ddp if with_model else None)
    for wrapped in (ddp, other):
        wrapped.register_comm_hook(state, comm_hook)
    train(ddp, rank, 2)
    train(other, rank, 1)  # which may have taken the place of the first
    for _ in range(2):
        before = state.state_dict()["residuals"]
        with pytest.raises(InvalidArgument, match="two DDP modules take turns with this HookState"):
            ddp(noise(rank, 0, 4, 64)).square().mean().backward()
        assert_same_tensors(state.state_dict()["residuals"], before)
    state.close()


@pytest.mark.parametrize("with_model", [True, False])
def test_a_state_serves_one_model(ranks: Callable[[int], Ranks], with_model: bool) -> None:
    ranks(2)(_two_models, with_model)


def _thawed(rank: int, frozen: str) -> None:
    """The same model in another DDP, with more parameters that learn."""
    model = Net()
    layer = getattr(model, frozen)
    layer.requires_grad_(False)
    ddp = make_ddp(model)
    state = HookState("int8")
    ddp.register_comm_hook(state, comm_hook)
    train(ddp, rank, 2)
    layer.requires_grad_(True)
    again = make_ddp(model)
    again.register_comm_hook(state, comm_hook)
    train(again, rank, 3)
    assert_replicas(again)
    state.close()


@pytest.mark.parametrize("frozen", ["first", "last"])
def test_a_state_goes_on_where_more_of_its_model_learns(ranks: Callable[[int], Ranks], frozen: str) -> None:
    ranks(2)(_thawed, frozen)


REFUSED: list[tuple[dict[str, Any], type[Error], str]] = [
    ({"codec": "int9"}, InvalidArgument, "int9"),
    ({"codec": "int8:blok=3"}, InvalidArgument, "blok"),
    ({"smal": 3}, InvalidArgument, "there is no option 'smal'; there are codec, transport, small"),
    ({"small": -1}, InvalidArgument, "small is -1; it must be a number of 0 or more"),
    ({"warmup": 2.5}, InvalidArgument, "warmup is 2.5"),
    ({"residual_dtype": "float16"}, InvalidArgument, "'float32', 'bfloat16'"),
    ({"nonfinite": "ignore"}, InvalidArgument, "'propagate', 'raise'"),
    ({"transport": "mpi"}, InvalidArgument, "'auto', 'native', 'c10d'"),
    ({"deadline": 0}, InvalidArgument, "deadline"),
    ({"feedback": 1}, InvalidArgument, "feedback is 1"),
    ({"seed": 2**64}, InvalidArgument, "seed is 18446744073709551616; it must be at most"),
    ({"timeout": float("inf")}, InvalidArgument, "timeout is inf seconds; it must be at most 1e+09"),
    ({"deadline": 1e12, "transport": "c10d"}, InvalidArgument, "deadline is 1000000000000.0 seconds"),
    ({"scaler": "x"}, InvalidArgument, "scaler is a str; pass a torch.amp.GradScaler"),
    ({"network": {"secret": 7}}, InvalidArgument, "secret is a int; pass text or bytes"),
]


def _refused(rank: int) -> None:
    ddp = make_ddp()
    for options, kind, message in REFUSED:
        error = error_of(lambda options=options: attach(ddp, **options))
        assert type(error) is kind
        assert message in str(error)
    with pytest.raises(InvalidArgument, match="not Net"):
        attach(ddp.module)
    state = attach(ddp)
    with pytest.raises(InvalidArgument, match="has a communication hook"):
        attach(ddp)
    for weight in (-1, float("nan"), "1", True):
        with pytest.raises(InvalidArgument, match="a weight is"):
            state.set_weight(weight)
    state.close()


def test_bad_arguments_are_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_refused)


def test_without_process_group() -> None:
    assert not dist.is_initialized()
    with pytest.raises(InvalidArgument, match="init_process_group"):
        HookState()
