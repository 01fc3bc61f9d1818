"""What came of a step on a CUDA device, which the host reads when it next has to know."""

from __future__ import annotations

import torch

from thinwire.ddp.c10d_wire import C10dWire
from thinwire.ddp.frames import check_weights
from thinwire.ddp.pipeline import Pipeline
from thinwire.ddp.stage import Stage
from thinwire.ddp.step import Step
from thinwire.errors import CudaError, InvalidArgument

_HEARD = 3
"""Where what the ranks told begins, behind what was not finite, and what was lost of how much."""


class Outcome:
    """Numbers that a step leaves on the device, and their copy on the host. Used for one step at a time.

    They are how much was not finite, the squared norms of a sampled error, and every rank's step and weight,
    which ranks tell each other at its start.
    """

    def __init__(self, device: torch.device, ranks: int) -> None:
        self.device = device
        self._numbers = torch.zeros(_HEARD + 2 * ranks, dtype=torch.float64, device=device)
        self._told = torch.zeros(2, dtype=torch.float64, device=device)
        self._copy = torch.zeros(
            len(self._numbers), dtype=torch.float64, device="cpu", pin_memory=device.type == "cuda"
        )
        self._over: torch.cuda.Event | None = None
        self.step: Step | None = None

    @property
    def nonfinite(self) -> torch.Tensor:
        """How much was not finite so far, on the device: a scalar, the same on all ranks."""
        return self._numbers[0]

    def begin(self, pipeline: Pipeline, wire: C10dWire, step: Step) -> None:
        """Tell the other ranks what this one takes part in. Encoding does not wait for what they tell."""
        self.step, self._over = step, None
        pipeline.encode.run(self._reset, step.number, step.weight)
        heard, told = self._numbers[_HEARD:].view(torch.uint8), self._told.view(torch.uint8)
        pipeline.decode.follow(pipeline.encode.start(wire.all_gather, heard, told))

    def count_frames(self, frames: torch.Tensor, ranks: int) -> None:
        """Add what the means in `frames` (uint8, one a rank) count as not finite. Run by a stage."""
        self._numbers[0].add_(frames.view(torch.int64).view(ranks, -1)[:, 0].sum())

    def count_values(self, values: torch.Tensor) -> None:
        """Add the values that are not finite. Run by a stage."""
        self._numbers[0].add_(values.isfinite().logical_not_().sum())

    def sample(self, sums: torch.Tensor, decoded: torch.Tensor) -> None:
        """Note the squared norms of what one encoding of a sum lost, and of the sum. Run by a stage."""
        wanted = sums.double()
        self._numbers[1].add_((wanted - decoded.double()).square().sum())
        self._numbers[2].add_(wanted.square().sum())

    def end(self, stage: Stage) -> None:
        """Have the numbers copied to the host, behind all that was counted."""
        stage.run(self._fetch)
        self._over = stage.mark()

    def settle(self, step: Step) -> tuple[float, float]:
        """Wait until the step is over on the device, and complete what is known of it.

        Returns the sampled error, zeros without one.
        """
        try:
            if self._over is not None:
                self._over.synchronize()
        except RuntimeError as error:
            step.fail_for_good(CudaError(f"a step did not end: {error}"))
            return 0.0, 0.0
        nonfinite, lost, total, *heard = self._copy.tolist()
        step.nonfinite |= nonfinite != 0
        steps, weights = heard[0::2], heard[1::2]
        try:
            _check_steps([int(number) for number in steps])
            check_weights(sum(weights))
        except InvalidArgument as error:
            step.fail(error, bucket=0)
        return lost, total

    def _reset(self, number: int, weight: float) -> None:
        self._numbers.zero_()
        self._told[0].fill_(number)
        self._told[1].fill_(weight)

    def _fetch(self) -> None:
        self._copy.copy_(self._numbers, non_blocking=True)


def _check_steps(steps: list[int]) -> None:
    """Raise InvalidArgument unless all ranks are in the same step."""
    odd = next((rank for rank, step in enumerate(steps) if step != steps[0]), None)
    if odd is not None:
        raise InvalidArgument(
            f"ranks disagree: rank 0 began step {steps[0]}, rank {odd} began step {steps[odd]}"
        )
