"""Gradients on a device over c10d, where the CPU plays the device: the bits of the CPU's own path, whatever
the order in which streams get on. `tests/gpu/test_cuda_c10d.py` has a GPU and NCCL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ddp.late_device import DOWNSTREAM, UPSTREAM, late_device
from ddp.ranks import Ranks
from ddp.training import Weights, assert_replicas, attached, error_of, noise
from thinwire import InvalidArgument, NotBuilt
from thinwire.ddp import HookState
from thinwire.ddp.stream_engine import StreamEngine
from thinwire.errors import NonFinite, ReplicaMismatch

RanksOfSize = Callable[[int], Ranks]
SHAPES = ((300, 130), (77,), (64, 96), (5000,), (40, 11), (128, 64))
STEPS = 5
GREATEST = 65504.0  # in fp16
UNUSED_IN, ZERO = 2, 2
"""In this step this matrix has no gradient."""


class Run:
    """A model with the hook over c10d, on the CPU or on a late device. Gradients are given."""

    def __init__(
        self,
        rank: int,
        codec: str,
        shapes: Sequence[tuple[int, ...]] = SHAPES,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        self._rank, self._shapes = rank, shapes
        self.model = Weights(*shapes, dtype=dtype or torch.float32)
        self.ddp, self.state = attached(codec, self.model, transport="c10d", **options)
        self._optimizer = torch.optim.SGD(self.ddp.parameters(), 0.5)

    def step(self, number: int, poison: float = 0.0, fill: float | None = None) -> None:
        """Train one step; rank 1 adds `poison` to a value of the first matrix, of which all is `fill`."""
        gradients = [noise(self._rank + 10 * i, number, *shape) for i, shape in enumerate(self._shapes)]
        if fill is not None:
            gradients[0].fill_(fill)
        gradients[0][3, 4] += poison if self._rank == 1 else 0.0
        if number == UNUSED_IN:
            gradients[ZERO].zero_()
        self.ddp.zero_grad()
        self.ddp([g.to(w.dtype) for g, w in zip(gradients, self.model.weights, strict=True)]).backward()
        self._optimizer.step()

    def bits(self) -> dict[str, Any]:
        """Return all that must be the same on a device."""
        saved = self.state.state_dict()
        kept = ("residuals", "bases", "pending")
        report = self.state.report().as_dict()
        return {
            "parameters": [bytes_of(w) for w in self.model.weights],
            **{what: {name: bytes_of(entry) for name, entry in saved[what].items()} for what in kept},
            "step": saved["step"],
            "sent": report["bytes_sent"],
            "nonfinite": report["nonfinite_steps"],
            "steps": report["steps"],
        }


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def _bits(
    rank: int, first: Sequence[str] | None, codec: str, options: dict[str, Any], play: Callable[[Run], None]
) -> dict[str, Any]:
    torch.manual_seed(0)
    with late_device(first) if first else nullcontext():
        run = Run(rank, codec, **options)
        assert isinstance(run.state._engine, StreamEngine) == bool(first)
        play(run)
        assert_replicas(run.model)
        found = run.bits()
        run.state.close()
    return found


def _same(rank: int, codec: str, options: dict[str, Any], play: Callable[[Run], None]) -> None:
    wanted = _bits(rank, None, codec, options, play)
    for first in (UPSTREAM, DOWNSTREAM):
        found = _bits(rank, first, codec, options, play)
        for what, bits in wanted.items():
            assert found[what] == bits, (what, first)


def _steps(run: Run) -> None:
    for number in range(STEPS):
        run.step(number)


def _plain(rank: int, codec: str, options: dict[str, Any]) -> None:
    _same(rank, codec, options, _steps)


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
        _steps(run)
        (program,) = run.state._engine._planner.programs()
        assert len(program.pieces) > 3

    _same(rank, "int8", options, play)


def test_a_bucket_of_many_pieces(ranks: RanksOfSize) -> None:
    ranks(2)(_with_pieces)


def _poisoned(rank: int, codec: str) -> None:
    def play(run: Run) -> None:
        for number in range(STEPS):
            run.step(number, poison=float("nan") if number == 3 else 0.0)
            if number == 3:  # an optimizer would skip it
                with torch.no_grad():
                    for weight in run.model.weights:
                        weight.nan_to_num_()

    _same(rank, codec, {"warmup": 1}, play)


@pytest.mark.parametrize("codec", ["int8", "topk"])
def test_a_step_that_is_not_finite_is_found_and_nothing_is_learnt_from_it(
    ranks: RanksOfSize, codec: str
) -> None:
    ranks(2)(_poisoned, codec)


def _overflows(rank: int, codec: str) -> None:
    """The mean is finite, and not so in fp16 once the codec has rounded it up."""

    def play(run: Run) -> None:
        for number in range(STEPS):
            with torch.no_grad():
                for weight in run.model.weights:
                    weight.zero_()
            before = run.bits()
            run.step(number, fill=GREATEST if number == 3 else None)
            assert run.bits()["nonfinite"] == (number >= 3)
            assert number != 3 or all(run.bits()[what] == before[what] for what in ("bases", "pending"))

    _same(rank, codec, {"warmup": STEPS, "dtype": torch.float16}, play)


@pytest.mark.parametrize("codec", ["int8", "sign1", "topk"])
def test_rounding_up_beyond_fp16_is_found(ranks: RanksOfSize, codec: str) -> None:
    ranks(2)(_overflows, codec)


class _Scale:
    """What the hook uses of a GradScaler."""

    scale = 1.0

    def is_enabled(self) -> bool:
        return True

    def get_scale(self) -> float:
        return self.scale


def _scaled(rank: int) -> None:
    for codec in ("int4", "sign1"):
        scaler = _Scale()

        def play(run: Run, scaler: _Scale = scaler) -> None:
            for number in range(STEPS):
                scaler.scale = 2.0 if number > 3 else 1.0
                before = run.bits()["residuals"]
                run.step(number, poison=float("inf") if number == 3 else 0.0)
                assert (run.bits()["residuals"] == before) == (number == 3)
                for weight in run.model.weights:
                    weight.data.nan_to_num_(0.0, 0.0, 0.0)

        _same(rank, codec, {"scaler": scaler, "warmup": 1}, play)


def test_with_a_scaler_residuals_stay_after_a_step_that_is_not_finite(ranks: RanksOfSize) -> None:
    ranks(2)(_scaled)


def _weighted(rank: int) -> None:
    def play(run: Run) -> None:
        run.state.set_weight((0.25, 0.75)[rank])
        _steps(run)

    _same(rank, "int4", {}, play)


def test_weights(ranks: RanksOfSize) -> None:
    ranks(2)(_weighted)


def _goes_on(run: Run) -> None:
    run.step(50)
    run.step(51)
    assert run.state.report().as_dict()["steps"] > 0
    grads = [nn.Parameter(w.grad) for w in run.model.weights]
    assert_replicas(nn.ParameterList(grads))


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
        _goes_on(run)
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
        _steps(run)
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
        _goes_on(run)
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
        _goes_on(run)
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


def _raises_not_finite(rank: int) -> None:
    with late_device(UPSTREAM):
        run = Run(rank, "int8", nonfinite="raise")
        run.step(0)
        with pytest.raises(NonFinite, match="step 1"):
            run.step(1, poison=float("inf"))
        _goes_on(run)
        run.state.close()


def test_nonfinite_raise_waits_for_the_device(ranks: RanksOfSize) -> None:
    ranks(2)(_raises_not_finite)


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
        _steps(run)
        run.state.load_state_dict(run.state.state_dict())
        run.step(STEPS)

    _same(rank, "sign1", {"warmup": 1}, play)


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
