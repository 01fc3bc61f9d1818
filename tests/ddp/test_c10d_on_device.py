"""Gradients on a device over c10d, where the CPU plays the device: the bits of the CPU's own path, whatever
the order in which streams get on. `tests/gpu/test_cuda_c10d.py` has a GPU and NCCL.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ddp.device_runs import STEPS, RanksOfSize, Run, bytes_of, goes_on, same, steps
from ddp.late_device import DOWNSTREAM, UPSTREAM, late_device
from ddp.training import Weights, error_of, noise
from thinwire import InvalidArgument, NotBuilt
from thinwire.ddp import HookState
from thinwire.errors import ReplicaMismatch


def _plain(rank: int, codec: str, options: dict[str, Any]) -> None:
    same(rank, codec, options, steps)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("raw", {}),
        ("bf16", {}),
        ("fp8", {}),
        ("int8", {}),
        ("int4:rounding=stochastic", {}),
        ("int4", {"residual_dtype": "bfloat16", "dtype": torch.bfloat16}),
        ("int2", {"warmup": 2}),
        ("sign1", {"warmup": 2}),
        ("topk", {"warmup": 1}),
        ("topk:values=int8", {"warmup": 0, "basis": 0, "feedback": False}),
        ("int8", {"dtype": torch.float64}),
    ],
)
def test_every_codec_gives_the_bits_of_the_cpu(
    ranks: RanksOfSize, codec: str, options: dict[str, Any]
) -> None:
    ranks(2)(_plain, codec, options)


@pytest.mark.parametrize("size", [3, 4])
def test_more_ranks_give_the_bits_of_the_cpu(ranks: RanksOfSize, size: int) -> None:
    ranks(size)(_plain, "int4", {})


def test_a_rank_alone_runs_everything_where_it_is_forced_to(ranks: RanksOfSize) -> None:
    ranks(1)(_plain, "sign1", {"warmup": 1, "force": True})


def _with_pieces(rank: int) -> None:
    """One bucket of many pieces, of which each slot takes several in turn."""
    shapes = [(600, 512)] * 12
    options = {"shapes": shapes, "ddp": {"bucket_cap_mb": 100}}

    def play(run: Run) -> None:
        steps(run)
        (program,) = run.state._engine._planner.programs()
        assert len(program.pieces) > 3

    same(rank, "int8", options, play)


def test_a_bucket_of_many_pieces(ranks: RanksOfSize) -> None:
    ranks(2)(_with_pieces)


def _weighted(rank: int) -> None:
    def play(run: Run) -> None:
        run.state.set_weight((0.25, 0.75)[rank])
        steps(run)

    same(rank, "int4", {}, play)


def test_weights(ranks: RanksOfSize) -> None:
    ranks(2)(_weighted)


def _wrong_weights(rank: int) -> list[str]:
    """Only the device knows at first: the next step raises it."""
    with late_device(UPSTREAM):
        run = Run(rank, "int8")
        run.step(0)
        run.state.set_weight(0.7)
        run.step(1)
        run.state.set_weight(0.5)
        error = error_of(lambda: run.step(2))
        assert isinstance(error, InvalidArgument)
        run.state.set_weight(0.6)
        run.step(3)
        with pytest.raises(InvalidArgument) as raised:
            run.state.report()
        run.state.set_weight(0.5)
        goes_on(run)
        run.state.close()
    return [str(error), str(raised.value)]


def test_weights_that_do_not_add_up_are_raised_with_the_next_step(ranks: RanksOfSize) -> None:
    for messages in ranks(2)(_wrong_weights):
        assert messages == [
            f"the weights of all ranks must add up to 1, not {total} (set_weight)" for total in (1.4, 1.2)
        ]


def _out_of_step(rank: int) -> str:
    with late_device(UPSTREAM):
        run = Run(rank, "int8")
        steps(run)
        if rank == 1:
            run.state.stepper.number += 7
        run.step(STEPS)
        error = error_of(run.state.report)
        run.state.close()
    return str(error)


def test_ranks_that_are_out_of_step(ranks: RanksOfSize) -> None:
    for message in ranks(2)(_out_of_step):
        assert message == "ranks disagree: rank 0 began step 5, rank 1 began step 12"


def _unlike_plans(rank: int) -> str:
    with late_device(DOWNSTREAM):
        run = Run(rank, "int8")
        policy = run.state._engine._planner._policy
        small = policy.small
        if rank == 1:
            object.__setattr__(policy, "small", 10**9)
        error = error_of(lambda: run.step(0))
        assert isinstance(error, InvalidArgument)
        object.__setattr__(policy, "small", small)
        goes_on(run)
        run.state.close()
    return str(error)


def test_ranks_that_disagree_on_a_plan(ranks: RanksOfSize) -> None:
    first, second = ranks(2)(_unlike_plans)
    assert first == second
    assert "ranks disagree on the plan of bucket 0" in first


def _no_memory(rank: int) -> str:
    with late_device(DOWNSTREAM):
        run = Run(rank, "int8")
        planner = run.state._engine._planner
        bind = planner._bind

        def fail(*arguments: Any) -> None:
            bind(*arguments)  # all ranks wait for their device, and so for the wire, at the same place
            raise torch.cuda.OutOfMemoryError("none is left")

        if rank == 1:
            planner._bind = fail
        error = error_of(lambda: run.step(0))
        assert isinstance(error, InvalidArgument)
        planner._bind = bind
        goes_on(run)
        run.state.close()
    return str(error)


def test_a_rank_without_memory_for_a_bucket_tells_the_others(ranks: RanksOfSize) -> None:
    for message in ranks(2)(_no_memory):
        assert "no memory for bucket 0: none is left" in message


def _reported(rank: int) -> None:
    """The vectors lie where the device was told, and it is for training's stream to change them."""
    with late_device(DOWNSTREAM):
        run = Run(rank, "topk", warmup=1)
        bases = run.state._memory.bases
        for number in range(STEPS):
            run.step(number)
            before = [bytes_of(basis) for _, basis in bases.named()]
            assert run.state.report().as_dict()["steps"] > 0
            assert [bytes_of(basis) for _, basis in bases.named()] == before != []
        saved = run.state.state_dict()["bases"]  # a step's end is seen here
        assert [bytes_of(basis) for basis in saved.values()] != before
        run.state.close()


def test_a_report_changes_nothing_that_a_stream_reads(ranks: RanksOfSize) -> None:
    ranks(2)(_reported)


def _drifts(rank: int) -> None:
    with late_device(UPSTREAM):
        run = Run(rank, "int8", verify_every=2)
        run.step(0)
        run.step(1)
        if rank == 1:
            run.model.weights[0].data[0, 0] += 1
        with pytest.raises(ReplicaMismatch, match="before step 2"):
            run.step(2)
        run.state.close()


def test_verify(ranks: RanksOfSize) -> None:
    ranks(2)(_drifts)


def _saved(rank: int) -> None:
    def play(run: Run) -> None:
        steps(run)
        run.state.load_state_dict(run.state.state_dict())
        run.step(STEPS)

    same(rank, "sign1", {"warmup": 1}, play)


def test_saved_states(ranks: RanksOfSize) -> None:
    ranks(2)(_saved)


def _breaks(rank: int) -> list[str]:
    """A kernel that cannot be launched ends this rank's part, and its futures complete."""
    with late_device(UPSTREAM):
        run = Run(rank, "int8", force=True)
        run.step(0)
        engine = run.state._engine

        def fail(*_: Any) -> None:
            raise RuntimeError("no launch")

        engine._send = fail
        found = [str(error_of(partial(run.step, number))) for number in (1, 2)]
        run.state.close()
    return found


def test_a_device_that_fails_breaks_the_engine_and_no_future_waits(ranks: RanksOfSize) -> None:
    assert ranks(1)(_breaks) == [["RuntimeError: no launch"] * 2]


def _refuses(rank: int) -> None:
    with late_device(UPSTREAM):
        with pytest.raises(NotBuilt, match=r"powersgd.* use transport='native'"):
            Run(rank, "powersgd:rank=2")
        run = Run(rank, "int8")
        run.step(0)
        run.state.close()
        with pytest.raises(InvalidArgument, match="closed"):
            run.step(1)


def test_what_is_refused(ranks: RanksOfSize) -> None:
    ranks(2)(_refuses)


def _only_bucket(model: nn.Module, buffer: torch.Tensor) -> Any:
    """What the hook uses of a dist.GradBucket."""
    parameters = list(model.parameters())
    return SimpleNamespace(
        index=lambda: 0, is_last=lambda: True, buffer=lambda: buffer, parameters=lambda: parameters
    )


def _late_gradients(rank: int) -> None:
    """The caller's stream writes gradients to the bucket after the hook was called with it."""
    for first in (UPSTREAM, DOWNSTREAM):
        with late_device(first) as device:
            model = Weights((90, 80))
            state = HookState("raw", model, transport="c10d", force=True)
            for number in range(3):
                gradient, buffer = noise(rank, number, 90 * 80), torch.zeros(90 * 80)
                device.streams["caller"].give(partial(buffer.copy_, gradient))
                state.stepper.take(_only_bucket(model, buffer))
                state.stepper.settle()
                assert torch.equal(buffer, gradient)
            assert state.report().as_dict()["steps"] == 2  # since the first one made its plan
            state.close()


def test_a_bucket_is_read_after_the_callers_stream_has_written_it(ranks: RanksOfSize) -> None:
    ranks(1)(_late_gradients)
