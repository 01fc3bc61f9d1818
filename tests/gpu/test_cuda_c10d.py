"""Training on GPUs with the hook over NCCL, on the model's own group: the bits of Gloo on the CPU.

NCCL takes one rank a GPU. One rank alone sends nothing, but encodes, adds up and decodes where it is forced
to. `tests/ddp/test_c10d_on_device.py` has more ranks, played on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, error_of, noise
from gpu.device_calls import needs_gpu, torch
from thinwire import InvalidArgument
from thinwire.errors import NonFinite

pytestmark = needs_gpu

SHAPES = ((300, 130), (77,), (64, 96), (5000,), (40, 11))
STEPS = 5
ZERO = 2
OPTIONS: dict[str, Any] = {"small": 100, "warmup": 1, "verify_every": 2, "force": True}
RanksOfSize = Callable[[int], Ranks]

two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


def _attached(rank: int, on_gpu: bool, codec: str, dtype: str = "float32", **options: Any) -> Any:
    """Return a model in DDP with the hook: on the CPU over Gloo, or on this rank's GPU over NCCL."""
    model = Weights(*SHAPES, dtype=getattr(torch, dtype))
    if not on_gpu:
        return attached(codec, model, transport="c10d", **options)
    torch.cuda.set_device(rank)
    group = torch.distributed.new_group(backend="nccl")
    return attached(codec, model.cuda(), {"process_group": group}, transport="c10d", **options)


def _step(ddp: Any, rank: int, number: int, poison: float = 0.0) -> None:
    """Run a backward with given gradients, of which one is all zero on rank 0."""
    weights = list(ddp.parameters())
    given = [noise(rank, 10 * number + i, *shape) for i, shape in enumerate(SHAPES)]
    given[0][3, 4] += poison
    if rank == 0:
        given[ZERO].zero_()
    ddp.zero_grad()
    ddp([g.to(w) for g, w in zip(given, weights, strict=True)]).backward()


def _train(rank: int, on_gpu: bool, codec: str, dtype: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train; return the bits of what is kept, and what was sent."""
    ddp, state = _attached(rank, on_gpu, codec, dtype, **options)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.5)
    for number in range(STEPS):
        _step(ddp, rank, number)
        optimizer.step()
    assert_replicas(ddp)
    saved = state.state_dict()
    found = {
        "parameters": [_bits(p) for p in ddp.parameters()],
        "sent": state.report().as_dict()["bytes_sent"],
    }
    for kept in ("residuals", "bases", "pending"):
        found[kept] = {name: _bits(entry) for name, entry in saved[kept].items()}
    state.close()
    return found


def _bits(tensor: Any) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())


CASES = pytest.mark.parametrize(
    ("codec", "dtype", "options"),
    [
        ("raw", "float32", {}),
        ("bf16", "float32", {}),
        ("int8", "float32", {}),
        ("int8", "bfloat16", {"residual_dtype": "bfloat16"}),
        ("int4:rounding=stochastic", "float32", {}),
        ("sign1", "float32", {}),
        ("topk", "float32", {}),
        ("topk", "bfloat16", {"basis": 0, "warmup": 0}),
    ],
)


@CASES
def test_a_rank_alone_has_the_bits_of_the_cpu(
    ranks: RanksOfSize, codec: str, dtype: str, options: dict[str, Any]
) -> None:
    on_cpu, on_gpu = (
        ranks(1)(_train, place, codec, dtype, {**OPTIONS, **options}) for place in (False, True)
    )
    assert on_gpu == on_cpu


@two_gpus
@CASES
def test_two_gpus_have_the_bits_of_the_cpu(
    ranks: RanksOfSize, codec: str, dtype: str, options: dict[str, Any]
) -> None:
    on_cpu, on_gpu = (
        ranks(2)(_train, place, codec, dtype, {**OPTIONS, **options}) for place in (False, True)
    )
    assert on_gpu == on_cpu


def _beside_other_streams(rank: int) -> None:
    """Train on a stream of one's own, with memory that comes and goes meanwhile."""
    with torch.cuda.stream(torch.cuda.Stream()):
        ddp, state = _attached(rank, True, "int8", force=True)
        for number in range(6):
            given = [torch.full(shape, float(number), device="cuda") for shape in SHAPES]
            ddp.zero_grad()
            ddp(given).backward()
            junk = [torch.full(shape, 1e9, device="cuda") for shape in SHAPES]
            for parameter in ddp.parameters():
                found = parameter.grad
                assert torch.allclose(found, torch.full_like(found, number), rtol=0.02)
            del junk
        state.close()


def test_a_stream_of_the_callers_own(ranks: RanksOfSize) -> None:
    ranks(1)(_beside_other_streams)


def _not_finite(rank: int) -> None:
    ddp, state = _attached(rank, True, "int4", force=True, nonfinite="raise")
    _step(ddp, rank, 0)
    assert isinstance(error_of(lambda: _step(ddp, rank, 1, poison=float("inf"))), NonFinite)
    _step(ddp, rank, 2)
    assert state.report().as_dict()["nonfinite_steps"] == 1
    state.close()


def test_a_step_that_is_not_finite(ranks: RanksOfSize) -> None:
    ranks(1)(_not_finite)


def _wrong_weight(rank: int) -> str:
    """The device knows first: the next step raises it."""
    ddp, state = _attached(rank, True, "int8", force=True)
    _step(ddp, rank, 0)
    state.stepper.weight = 0.5
    _step(ddp, rank, 1)
    state.set_weight(1.0)
    error = error_of(lambda: _step(ddp, rank, 2))
    assert isinstance(error, InvalidArgument)
    _step(ddp, rank, 3)
    state.close()
    return str(error)


def test_weights_that_do_not_add_up(ranks: RanksOfSize) -> None:
    assert ranks(1)(_wrong_weight) == ["the weights of all ranks must add up to 1, not 0.5 (set_weight)"]


def _without_waiting(rank: int) -> None:
    """A steady step gives all of its work to the device and stops for none of it."""
    ddp, state = _attached(rank, True, "int8", force=True)
    for number in range(3):
        _step(ddp, rank, number)
    given = [torch.ones(shape, device="cuda") for shape in SHAPES]
    ddp.zero_grad()
    loss = ddp(given)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")  # what torch itself would wait for
    try:
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    state.close()


def test_a_steady_step_does_not_wait_for_the_device(ranks: RanksOfSize) -> None:
    ranks(1)(_without_waiting)
