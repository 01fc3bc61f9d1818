"""The stand-in of a bucket on a CUDA device, worked out there with the bits of the CPU.

All of it is launched in the order of torch's current stream. What the CPU asks the values (is a gradient all
zero, is a mean finite, can it be made orthonormal), kernels ask on the device. Only whether all that came out
is finite must be known on the host, where steps are counted and taken back: the thread that finishes buckets
waits for that one word, while the training thread waits for the bucket.
"""

from __future__ import annotations

import torch

from thinwire import _core
from thinwire.ddp.stand_in import StandIn
from thinwire.ddp.step import Step


class DeviceStandIn(StandIn):
    """A stand-in whose arrays lie on a CUDA device. See `StandIn`."""

    def take(self, buffer: torch.Tensor, step: Step) -> None:
        """Take the factors and the other values of a bucket. Only launched."""
        _core.cuda_take_factors(self._on_device(buffer, step, learns=False), _stream(buffer))

    def give(self, buffer: torch.Tensor, step: Step) -> bool:
        """Do what `StandIn.give` does. Waits for it."""
        nonfinite = torch.zeros(1, dtype=torch.int32, device=buffer.device)
        bucket = self._on_device(buffer, step, learns=True)
        _core.cuda_give_factors(bucket, nonfinite.data_ptr(), _stream(buffer))
        return not nonfinite.item()

    def _on_device(self, buffer: torch.Tensor, step: Step, learns: bool) -> _core.FactoredBucket:
        base, item = buffer.data_ptr(), buffer.itemsize
        found = _core.FactoredBucket(self._is_left, self._dtype, self._residual_dtype, step.weight)
        for run in self._runs:
            place, count = run.stand_in.start, run.stand_in.stop - run.stand_in.start
            found.add_values(base + run.bucket.start * item, count, self.values[place:].data_ptr())
        for matrix in self._matrices:
            found.add_matrix(
                matrix.of.factors.native,
                base + matrix.offset,
                *matrix.of.addresses(step),
                self._sent[matrix.factor].data_ptr(),
                self.losses[matrix.factor].data_ptr(),
                self.values[matrix.factor].data_ptr(),
                matrix.of.factors.write_next(self._is_left) if learns else 0,
            )
        return found


def _stream(buffer: torch.Tensor) -> int:
    return int(torch.cuda.current_stream(buffer.device).cuda_stream)
