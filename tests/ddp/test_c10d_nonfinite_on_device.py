"""Steps over c10d that are not finite, on a device that the CPU plays: they are found there, and nothing is
learnt from them.
"""

from __future__ import annotations

import pytest
import torch

from ddp.device_runs import STEPS, RanksOfSize, Run, goes_on, same
from ddp.late_device import UPSTREAM, late_device
from thinwire.errors import NonFinite

GREATEST = 65504.0  # in fp16


def _poisoned(rank: int, codec: str) -> None:
    def play(run: Run) -> None:
        for number in range(STEPS):
            run.step(number, poison=float("nan") if number == 3 else 0.0)
            if number == 3:  # an optimizer would skip it
                with torch.no_grad():
                    for weight in run.model.weights:
                        weight.nan_to_num_()

    same(rank, codec, {"warmup": 1}, play)


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

    same(rank, codec, {"warmup": STEPS, "dtype": torch.float16}, play)


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

        same(rank, codec, {"scaler": scaler, "warmup": 1}, play)


def test_with_a_scaler_residuals_stay_after_a_step_that_is_not_finite(ranks: RanksOfSize) -> None:
    ranks(2)(_scaled)


def _raises_not_finite(rank: int) -> None:
    with late_device(UPSTREAM):
        run = Run(rank, "int8", nonfinite="raise")
        run.step(0)
        with pytest.raises(NonFinite, match="step 1"):
            run.step(1, poison=float("inf"))
        goes_on(run)
        run.state.close()


def test_nonfinite_raise_waits_for_the_device(ranks: RanksOfSize) -> None:
    ranks(2)(_raises_not_finite)
