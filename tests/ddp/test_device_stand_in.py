"""The stand-in of a bucket on a device, without one: the natives of the CPU play the kernels, so that what
they are told is seen. `tests/native/test_warp_low_rank.cpp` has the kernels,
`tests/gpu/test_cuda_powersgd.py` a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ddp.stand_ins import FactoredBucket
from thinwire import _core
from thinwire.ddp import device_stand_in
from thinwire.ddp.base_program import BaseProgram, FactorLesson
from thinwire.ddp.device_stand_in import DeviceStandIn
from thinwire.ddp.factors import MatrixFactors
from thinwire.ddp.powersgd import FactorShape, sends_left
from thinwire.ddp.stand_in import StandIn
from thinwire.ddp.step import Step

PARTS = [(3, 7, 0), (5, 1, 0), (40, 33, 2), (20, 70, 3), (9, 9, 0), (30, 30, 1)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
STREAM = 77


def memory(address: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the values at an address."""
    content = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(content, dtype=dtype)


class Told:
    """Notes what belongs to a bucket, in place of `_core.FactoredBucket`."""

    def __init__(self, is_left: bool, dtype: int, residual_dtype: int, scale: float) -> None:
        self.is_left, self.dtype, self.residual_dtype, self.scale = is_left, dtype, residual_dtype, scale
        self.matrices: list[tuple[Any, ...]] = []
        self.copied: list[tuple[int, int, int]] = []

    def add_matrix(self, *told: Any) -> None:
        self.matrices.append(told)

    def add_values(self, *told: int) -> None:
        self.copied.append(told)


class Kernels:
    """Do on the host what the kernels do on a device, for a bucket's matrices in order."""

    def __init__(self, factors: Sequence[MatrixFactors | None]) -> None:
        self._factors = [one for one in factors if one is not None]

    def take(self, bucket: Told, stream: int) -> None:
        assert stream == STREAM
        for values, count, stand_in in bucket.copied:
            memory(stand_in, count, torch.float32).copy_(memory(values, count, DTYPES[bucket.dtype]))
        for factors, told in zip(self._factors, bucket.matrices, strict=True):
            shape, (native, values, residual, _, sent, losses, mean, following) = factors.shape, told
            native.factor(
                bucket.is_left, values, bucket.dtype, bucket.scale, residual, bucket.residual_dtype, sent
            )
            n = shape.values(bucket.is_left)
            if _core.is_zero(values, shape.rows * shape.columns, bucket.dtype):
                memory(sent, n, torch.float32).zero_()
            memory(losses, n, torch.float32).copy_(memory(sent, n, torch.float32))
            memory(mean, n, torch.float32).zero_()
            assert following == 0, "nothing is learnt yet"

    def give(self, bucket: Told, nonfinite: int, stream: int) -> None:
        assert stream == STREAM
        for values, count, stand_in in bucket.copied:
            memory(values, count, DTYPES[bucket.dtype]).copy_(memory(stand_in, count, torch.float32))
        for factors, told in zip(self._factors, bucket.matrices, strict=True):
            native, values, residual, residual_out, sent, losses, mean, following = told
            shape = factors.shape
            n, y = shape.values(bucket.is_left), (values, bucket.dtype, bucket.scale, residual, residual_out)
            memory(sent, n, torch.float32).sub_(memory(losses, n, torch.float32))
            if not native.deliver(bucket.is_left, *y, bucket.residual_dtype, sent, mean):
                memory(nonfinite, 1, torch.int32).fill_(1)
            if not _core.orthonormal_factor(n // shape.rank, shape.rank, mean, following):
                left = shape.values(is_left=True)
                now = factors.current[:left] if bucket.is_left else factors.current[left:]
                memory(following, n, torch.float32).copy_(now)


@pytest.mark.parametrize(
    ("dtype", "residual_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
)
def test_a_bucket_on_a_device_does_what_one_on_the_cpu_does(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, residual_dtype: torch.dtype
) -> None:
    cpu, device = (
        FactoredBucket(kind, "cpu", PARTS, dtype, residual_dtype) for kind in (StandIn, DeviceStandIn)
    )
    kernels = Kernels(device.factors)
    monkeypatch.setattr(_core, "FactoredBucket", Told)
    monkeypatch.setattr(_core, "cuda_take_factors", kernels.take)
    monkeypatch.setattr(_core, "cuda_give_factors", kernels.give)
    monkeypatch.setattr(device_stand_in, "_stream", lambda buffer: STREAM)
    for number in range(6):
        torch.manual_seed(number)
        gradients = torch.randn(len(cpu.buffer)).to(dtype)
        gain = 1.0
        if number == 3:
            gradients[26 : 26 + 40 * 33] = 0  # a rank without a gradient keeps its residual
        if number == 5 and dtype == torch.float16:
            gain = 1e5
        found = [one.step(number, gradients, gain) for one in (cpu, device)]
        assert found == [gain == 1] * 2
        for wanted, got in zip(cpu.state(), device.state(), strict=True):
            assert torch.equal(wanted, got)
    for one in (cpu, device):  # the sample of the report
        kept, whole = one.stand_ins[sends_left(5)].error_of_one(1, Step(5, 1.0, 1, 0))
        assert 0 < kept < whole


def test_lessons_on_a_device_are_learnt_at_the_next_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, matrix = FactorShape(3, 40, 50), torch.randn(5 + 40 * 50)
    cpu, device = (MatrixFactors(shape, 1, matrix.device) for _ in range(2))
    step = Step(1, 1.0, 0, 0)
    is_left = sends_left(step.number)

    def learn(lessons: Any, side: bool, dtype: int, stream: int) -> None:
        assert (side, dtype, stream) == (is_left, 0, STREAM)
        for native, address, following in lessons:
            mean = torch.empty(shape.values(side))
            native.factor(side, address, dtype, 1.0, 0, 0, mean.data_ptr())
            assert _core.orthonormal_factor(shape.columns, shape.rank, mean.data_ptr(), following)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=STREAM))
    monkeypatch.setattr(_core, "cuda_learn", lambda *_: None)
    monkeypatch.setattr(_core, "cuda_learn_factors", learn)
    offset = 5 * matrix.itemsize
    program: Any = SimpleNamespace(lessons=[FactorLesson(device, offset)], dtype=0)
    BaseProgram._learn_on_device(program, matrix, step)
    FactorLesson(cpu, offset).take(matrix.data_ptr(), 0, step.number)
    before = device.current.clone()
    for factors in (cpu, device):
        factors.commit()
    assert torch.equal(cpu.current, device.current)
    assert not torch.equal(before, device.current)
