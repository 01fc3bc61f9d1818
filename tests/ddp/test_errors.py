"""What goes wrong is raised by backward, with its own type, on all ranks, soon; and DDP goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ddp.ranks import Ranks
from ddp.training import Net, Weights, assert_replicas, attached, error_of, make_ddp, noise, plain_step, train
from thinwire import CorruptFrame, Error, InvalidArgument, PeerLost, Timeout
from thinwire.ddp import HookState, attach, comm_hook
from thinwire.ddp.c10d_wire import Work
from thinwire.ddp.frames import HostFrames
from thinwire.ddp.wire import Wire
from thinwire.errors import NonFinite


def _goes_on(ddp: DistributedDataParallel, rank: int) -> None:
    """Check that DDP can still be used: gradients are the same everywhere."""
    ddp.zero_grad()
    train(ddp, rank, 2, first=50)
    assert_replicas(ddp)


def _corrupt_once(wire: Wire, phase: int) -> None:
    """Flip one byte on this rank: of what it sends in phase 1, or of what it has received in phase 2."""
    all_to_all, all_gather = wire.all_to_all, wire.all_gather

    def bad_all_to_all(recv: torch.Tensor, send: torch.Tensor, *sizes: Any) -> Work:
        wire.all_to_all = all_to_all
        send[200] ^= 1
        return all_to_all(recv, send, *sizes)

    def bad_all_gather(recv: torch.Tensor, send: torch.Tensor) -> Work:
        wire.all_gather = all_gather
        work = all_gather(recv, send)
        work.wait()
        recv[200] ^= 1
        return work

    if phase == 1:
        wire.all_to_all = bad_all_to_all
    else:
        wire.all_gather = bad_all_gather


def _bad_frame_to_owner(rank: int) -> str:
    ddp, state = attached("int8", transport="c10d")
    train(ddp, rank, 3)
    if rank == 1:
        _corrupt_once(state._wire, 1)
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert isinstance(error, CorruptFrame)
    _goes_on(ddp, rank)
    state.close()
    return str(error)


@pytest.mark.parametrize("size", [2, 3])
def test_a_bad_frame_raises_the_same_on_all_ranks(ranks: Callable[[int], Ranks], size: int) -> None:
    messages = ranks(size)(_bad_frame_to_owner)
    assert len(set(messages)) == 1
    assert (
        "rank 1's frame of step 3, bucket 0, piece 0: corrupt frame: the checksum does not match"
        in messages[0]
    )


def _bad_frame_from_owner(rank: int) -> list[str]:
    """Return the errors of the step in which one rank received a bad mean, and of the next."""
    ddp, state = attached("int8", ddp={"bucket_cap_mb": 25}, transport="c10d")
    train(ddp, rank, 3)
    if rank == 1:
        _corrupt_once(state._wire, 2)
    found = []
    for step in (3, 4):
        try:
            plain_step(ddp, rank, step)
            found.append("")
        except CorruptFrame as error:
            found.append(str(error))
    _goes_on_after_divergence(ddp, rank)
    state.close()
    return found


def _goes_on_after_divergence(ddp: DistributedDataParallel, rank: int) -> None:
    ddp.zero_grad()
    plain_step(ddp, rank, 50)
    assert_replicas(nn.ParameterList([nn.Parameter(p.grad) for p in ddp.parameters()]))


def test_a_bad_mean_is_told_to_all_ranks_in_the_next_step(ranks: Callable[[int], Ranks]) -> None:
    (first, first_next), (second, second_next) = ranks(2)(_bad_frame_from_owner)
    assert first == ""
    assert second == first_next == second_next
    assert "rank 0's frame of step 3" in second


def _fails_to_encode(rank: int) -> list[str]:
    ddp, state = attached("int8", transport="c10d")
    train(ddp, rank, 2)
    encode = HostFrames._encode

    def fail_once(self: HostFrames, *arguments: Any) -> None:
        HostFrames._encode = encode
        raise ZeroDivisionError("out of luck")

    if rank == 0:
        HostFrames._encode = fail_once
    error = error_of(lambda: plain_step(ddp, rank, 2))
    _goes_on(ddp, rank)
    state.close()
    return [type(error).__name__, str(error)]


def test_an_unexpected_failure_reaches_all_ranks(ranks: Callable[[int], Ranks]) -> None:
    found = ranks(2)(_fails_to_encode)
    assert found == [["Error", "ZeroDivisionError: out of luck"]] * 2


def _unlike_options(rank: int) -> str:
    ddp = make_ddp()
    error = error_of(lambda: attach(ddp, "int8" if rank == 0 else "int4:block=32"))
    assert isinstance(error, InvalidArgument)
    attach(ddp, "int8").close()
    return str(error)


def test_ranks_that_disagree_on_options(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_unlike_options):
        assert (
            message
            == "ranks disagree on the hook's options: codec is int8 on rank 0, int4:block=32 on rank 1"
        )


def _unlike_plans(rank: int) -> str:
    """One rank cuts its bucket differently, here because of another `small`, set behind its back."""
    ddp, state = attached("int8")
    if rank == 1:
        policy = state._engine._planner._policy
        object.__setattr__(policy, "small", 10**9)
    error = error_of(lambda: plain_step(ddp, rank, 0))
    assert isinstance(error, InvalidArgument)
    if rank == 1:
        object.__setattr__(policy, "small", 4096)
    _goes_on(ddp, rank)
    state.close()
    return str(error)


def test_ranks_that_disagree_on_a_plan(ranks: Callable[[int], Ranks]) -> None:
    first, second = ranks(2)(_unlike_plans)
    assert first == second
    assert first == "ranks disagree on the plan of bucket 0: codecs 0 is int8 on rank 0, bf16 on rank 1"


def _out_of_step(rank: int, transport: str) -> str:
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        state.stepper.number += 7
    error = error_of(lambda: plain_step(ddp, rank, 3))
    state.close()
    return str(error)


def test_ranks_that_are_out_of_step(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_out_of_step, "c10d"):
        assert "has step 10, not 3" in message or "has step 3, not 10" in message


def test_ranks_that_are_out_of_step_on_native_links(ranks: Callable[[int], Ranks]) -> None:
    for message in ranks(2)(_out_of_step, "native"):
        assert message == "ranks disagree: rank 0 began step 3, bucket 0, rank 1 began step 10, bucket 0"


def _late(rank: int) -> float:
    ddp = make_ddp()
    start = time.monotonic()
    if rank == 0:
        error = error_of(lambda: attach(ddp, timeout=1.0))
        assert isinstance(error, Timeout)
        assert str(error) == "rank 1 has not made its HookState within 1 s (option timeout)"
    return time.monotonic() - start


def test_a_rank_that_never_comes_is_named(fresh_ranks: Callable[[int], Ranks]) -> None:
    assert fresh_ranks(2)(_late)[0] < 5


def _killed(rank: int, transport: str) -> list[str]:
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    found = []
    for step in (3, 4):
        start = time.monotonic()
        error = error_of(lambda step=step: plain_step(ddp, rank, step))
        assert time.monotonic() - start < 5
        found.append(type(error).__name__)
    state.close()
    return found


@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_a_killed_peer_raises_on_the_others(fresh_ranks: Callable[[int], Ranks], transport: str) -> None:
    outcomes = fresh_ranks(3).outcomes(_killed, transport)
    assert outcomes == [("result", ["PeerLost"] * 2)] * 2 + [("died", -signal.SIGKILL)]


def _killed_of_two(rank: int, transport: str) -> tuple[str, int | None]:
    ddp, _ = attached("int8", transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert isinstance(error, PeerLost)
    return str(error)[:14], error.rank


@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_the_lost_rank_of_two_is_named(fresh_ranks: Callable[[int], Ranks], transport: str) -> None:
    assert fresh_ranks(2).outcomes(_killed_of_two, transport)[0] == ("result", ("rank 1 is lost", 1))


def _stuck(rank: int, transport: str) -> str:
    """Rank 1 does not reach its backward in time; when it does, rank 0 has left."""
    ddp, state = attached("int8", deadline=2.0, transport=transport)
    train(ddp, rank, 3)
    if rank == 1:
        time.sleep(4)
    start = time.monotonic()
    error = error_of(lambda: plain_step(ddp, rank, 3))
    assert time.monotonic() - start < 5
    state.close()
    return type(error).__name__


@pytest.mark.parametrize(
    ("transport", "wanted"), [("c10d", ["Timeout", "PeerLost"]), ("native", ["Timeout", "Timeout"])]
)
def test_a_deadline_ends_the_wait_and_releases_the_late_rank(
    fresh_ranks: Callable[[int], Ranks], transport: str, wanted: list[str]
) -> None:
    assert fresh_ranks(2)(_stuck, transport) == wanted


def _nonfinite(rank: int, policy: str) -> None:
    model = Weights((80, 80), (50,))
    ddp, state = attached("int4", model, nonfinite=policy)
    gradients = [noise(rank, 0, 80, 80), noise(rank, 1, 50)]
    ddp(gradients).backward()
    ddp.zero_grad()
    bad = [gradients[0].clone(), gradients[1].clone()]
    if rank == 1:
        bad[0][70, 3] = float("inf")
        bad[1][5] = float("nan")
    if policy == "raise":
        assert isinstance(error_of(lambda: ddp(bad).backward()), NonFinite)
    else:
        ddp(bad).backward()
        assert model.weights[0].grad[70, 3].isnan()
        assert model.weights[1].grad[5].isnan()
        assert model.weights[0].grad.isfinite().any()
    assert_replicas(nn.ParameterList([nn.Parameter(p.grad.nan_to_num(7.0)) for p in model.weights]))
    assert all(r.isfinite().all() for r in state.state_dict()["residuals"].values())
    assert state.report().as_dict()["nonfinite_steps"] == 1
    ddp.zero_grad()
    ddp(gradients).backward()
    assert all(p.grad.isfinite().all() for p in model.weights)
    state.close()


@pytest.mark.parametrize("policy", ["propagate", "raise"])
def test_nonfinite_gradients(ranks: Callable[[int], Ranks], policy: str) -> None:
    ranks(2)(_nonfinite, policy)


def _sum_overflows(rank: int) -> None:
    """A gradient is finite in fp32, but not in the fp16 that is sent."""
    model = Weights((80, 80))
    ddp, state = attached("fp16", model, nonfinite="raise")
    with pytest.raises(NonFinite):
        ddp([torch.full((80, 80), 2e5)]).backward()
    state.close()


def test_overflow_of_the_codec_counts_as_not_finite(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_sum_overflows)


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
        after = state.state_dict()["residuals"]
        assert all(torch.equal(kept, before[name]) for name, kept in after.items())
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


def _outside_backward(rank: int) -> None:
    """Rank 0 has joined when the error happens; it is not in backward, so close() raises it."""
    ddp, state = attached("int8", transport="c10d")
    with ddp.join():
        for step in range(1 + 2 * rank):
            if step == 2:
                _corrupt_once(state._wire, 1)
                with pytest.raises(CorruptFrame):
                    plain_step(ddp, rank, step)
            else:
                plain_step(ddp, rank, step)
    if rank == 0:
        with pytest.raises(CorruptFrame):
            state.report()
    state.close()


def test_an_error_outside_backward_waits_for_report(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_outside_backward)


def _alone(rank: int, how: str) -> str:
    """Return the error of a rank that cannot learn from a mean from which the other one has learnt."""
    ddp, state = attached("sign1", ddp={"bucket_cap_mb": 25}, transport="c10d", warmup=1)
    train(ddp, rank, 3)
    if rank == 1 and how == "damaged":
        _corrupt_once(state._wire, 2)
    if rank == 1 and how == "no memory":
        for program in state._engine._planner.programs():
            program.end = lambda buffer, step: [][0]
    for step in (3, 4):
        try:
            plain_step(ddp, rank, step)
        except Error as error:
            return f"{type(error).__name__} in step {step}"
    return "none"


@pytest.mark.parametrize("how", ["damaged", "no memory"])
def test_a_rank_whose_bases_would_be_others_ends_the_group(
    fresh_ranks: Callable[[int], Ranks], how: str
) -> None:
    """The other could not tell from its frames: they would be decoded along other vectors."""
    first, second = fresh_ranks(2)(_alone, how)
    assert second in ("CorruptFrame in step 3", "Error in step 3")
    assert first in ("PeerLost in step 4", "TransportError in step 4", "PeerLost in step 3")


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
