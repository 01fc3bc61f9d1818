"""PowerSGD on a CUDA device: the CPU's factors, residuals and gradients, to the bit; and training with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ddp.factors import CODEC
from ddp.ranks import Ranks
from ddp.stand_ins import FactoredBucket, Part, step_of
from ddp.training import Weights, assert_replicas, attached, noise
from gpu.device_calls import current_stream, needs_gpu, torch
from thinwire import InvalidArgument, NonFinite, _core
from thinwire.ddp.device_stand_in import DeviceStandIn
from thinwire.ddp.factors import MatrixFactors
from thinwire.ddp.powersgd import FactorShape
from thinwire.ddp.stand_in import StandIn
from vectors.formula import KINDS, values

pytestmark = needs_gpu

PARTS: list[Part] = [
    (3, 7, 0),
    (1, 64, 1),
    (64, 1, 1),
    (65, 33, 5),
    (9, 9, 0),
    (5, 1, 1),
    (700, 1, 0),
    (130, 33, 9),
    (40, 70, 32),
    (5, 1100, 3),
    (200, 96, 16),
]
"""Rows, columns and rank: groups and tiles of rows and columns, whole and in part. Rank 0: other values."""
DTYPES = [(torch.float32, torch.float32), (torch.float16, torch.bfloat16), (torch.bfloat16, torch.float32)]
"""Of a bucket and of residuals."""
SHAPES = ((300, 130), (77,), (64, 96), (5000,), (40, 11))
RanksOfSize = Callable[[int], Ranks]

every_dtype = pytest.mark.parametrize(("dtype", "residual_dtype"), DTYPES, ids=["fp32", "fp16", "bf16"])


def equal_bits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    bits = torch.int32 if wanted.dtype == torch.float32 else torch.int16
    return torch.equal(found.view(bits), wanted.view(bits))


def check_steps(
    parts: Sequence[Part], kind: str, dtype: torch.dtype, residual_dtype: torch.dtype, steps: int = 4
) -> None:
    """Take and give on both sides, step by step; everything must be the same."""
    host = FactoredBucket(StandIn, "cpu", parts, dtype, residual_dtype)
    device = FactoredBucket(DeviceStandIn, "cuda", parts, dtype, residual_dtype)
    for number in range(steps):
        given = torch.from_numpy(values(kind, len(host.buffer), seed=number)).to(dtype)
        if number == 2:
            given[: len(given) // 2] = 0  # some matrices keep their residual
        finite = host.step(number, given)
        assert device.step(number, given.cuda()) == finite
        for found, wanted in zip(device.state(), host.state(), strict=True):
            assert equal_bits(found, wanted)


@every_dtype
def test_a_bucket_has_the_bits_of_the_cpu(dtype, residual_dtype):
    check_steps(PARTS, "cubes", dtype, residual_dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_special_values(kind):
    check_steps([(130, 33, 9), (40, 70, 4)], kind, *DTYPES[0])


def test_more_matrices_than_a_launch_takes():
    check_steps(PARTS * 6, "cubes", *DTYPES[0])


def test_a_tall_and_a_wide_matrix():
    check_steps([(50_000, 64, 8), (16, 1 << 15, 8), (4096, 1024, 32)], "cubes", *DTYPES[0], steps=2)


@pytest.mark.parametrize("gain", [1.0, 1e9])
def test_what_is_received_may_be_too_large_for_its_dtype(gain):
    bucket = FactoredBucket(DeviceStandIn, "cuda", [(130, 33, 4)], *DTYPES[1])
    given = torch.from_numpy(values("cubes", 130 * 33, seed=1)).half().cuda()
    assert bucket.step(0, given, gain) == (gain == 1)
    assert bucket.buffer.isfinite().all() == (gain == 1)


@every_dtype
@pytest.mark.parametrize("is_left", [True, False])
def test_lessons_have_the_bits_of_the_cpu(dtype, residual_dtype, is_left):
    shapes = [FactorShape(rank, rows, columns) for rows, columns, rank in PARTS if rank]
    code = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}[dtype]
    host, device = ([MatrixFactors(s, 1, torch.device(on)) for s in shapes] for on in ("cpu", "cuda"))
    matrices = [torch.from_numpy(values("cubes", s.rows * s.columns, seed=s.rows)).to(dtype) for s in shapes]
    matrices[1].zero_()  # teaches nothing
    there = [matrix.cuda() for matrix in matrices]
    lessons = [(f.native, m.data_ptr(), f.write_next(is_left)) for f, m in zip(device, there, strict=True)]
    _core.cuda_learn_factors(lessons, is_left, code, current_stream())
    for learner, other, matrix in zip(device, host, matrices, strict=True):
        other.learn_from(is_left, matrix.data_ptr(), code)
        learner.commit()
        other.commit()
        assert equal_bits(learner.current.cpu(), other.current)


def test_a_bucket_in_host_memory_is_refused():
    bucket = FactoredBucket(DeviceStandIn, "cpu", [(130, 33, 4)])
    native = bucket.factors[0].native
    told = _core.FactoredBucket(True, 0, 0, 1.0)
    told.add_matrix(native, bucket.buffer.data_ptr(), 0, 0, 0, 0, 0, 0)
    with pytest.raises(InvalidArgument, match="the bucket is not in the memory of a CUDA device"):
        _core.cuda_take_factors(told, current_stream())


def test_taking_waits_for_nothing():
    """Factors are launched in the order of the stream."""
    host, device = (
        FactoredBucket(kind, on, [(130, 33, 4)]) for kind, on in ((StandIn, "cpu"), (DeviceStandIn, "cuda"))
    )
    given = torch.from_numpy(values("cubes", 130 * 33, seed=1))
    ready, side = given.cuda(), torch.cuda.Stream()
    stand_in = device.stand_ins[True]
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        device.buffer.copy_(ready)
        stand_in.take(device.buffer, step_of(0))
        assert not side.query()
    side.synchronize()
    host.buffer.copy_(given)
    host.stand_ins[True].take(host.buffer, step_of(0))
    assert equal_bits(stand_in.losses.cpu(), host.stand_ins[True].losses)


def _train(
    rank: int, device: str, codec: str, dtype: str, options: dict[str, Any], reload: bool = False
) -> list[bytes]:
    """Train, and return the bits of all parameters, residuals and factors."""
    kind = getattr(torch, dtype)
    ddp, state = attached(codec, Weights(*SHAPES, dtype=kind).to(device), **options)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.5)
    for step in range(6):
        given = [noise(rank, 10 * step + i, *shape).to(kind) for i, shape in enumerate(SHAPES)]
        if rank == 0 and step == 4:
            given[2].zero_()  # a gradient that is all zero keeps its residual
        optimizer.zero_grad()
        ddp([gradient.to(device) for gradient in given]).backward()
        optimizer.step()
        if reload and step == 3:
            saved = state.state_dict()
            state.load_state_dict({**saved, "residuals": {k: v.cpu() for k, v in saved["residuals"].items()}})
    assert_replicas(ddp)
    kept = state.state_dict()
    arrays = [kept[what][name] for what in ("residuals", "factors") for name in sorted(kept[what])]
    assert set(kept["factors"]) == set(kept["residuals"]) != set()
    found = [*ddp.parameters(), *arrays]
    state.close()
    return [tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() for tensor in found]


@pytest.mark.parametrize("codec", [CODEC, "powersgd:rank=2,factors=bf16", "powersgd:rank=9,factors=fp32"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_ranks_on_one_gpu_train_like_two_on_the_cpu(ranks: RanksOfSize, codec: str, dtype: str) -> None:
    options = {"warmup": 2, "small": 100, "verify_every": 2}
    on_cpu = ranks(2)(_train, "cpu", codec, dtype, options)
    on_gpu = ranks(2)(_train, "cuda", codec, dtype, options)
    assert on_gpu == on_cpu


def test_residuals_in_16_bit(ranks: RanksOfSize) -> None:
    options = {"residual_dtype": "bfloat16", "small": 100, "warmup": 1}
    assert ranks(2)(_train, "cuda", CODEC, "float32", options) == ranks(2)(
        _train, "cpu", CODEC, "float32", options
    )


def test_what_was_saved_is_taken_up(ranks: RanksOfSize) -> None:
    options = {"small": 100, "warmup": 1}
    assert ranks(2)(_train, "cuda", CODEC, "float32", options, True) == ranks(2)(
        _train, "cuda", CODEC, "float32", options
    )


def _mixed(rank: int) -> list[bytes]:
    return _train(rank, "cuda" if rank == 0 else "cpu", CODEC, "float32", {"small": 100, "warmup": 1})


def test_a_rank_on_a_gpu_trains_with_one_on_the_cpu(ranks: RanksOfSize) -> None:
    options = {"small": 100, "warmup": 1}
    assert ranks(2)(_mixed) == ranks(2)(_train, "cpu", CODEC, "float32", options)


def _overflow(rank: int) -> None:
    """As in ddp/test_powersgd_overflow.py."""
    ddp, state = attached(
        "powersgd:rank=4,factors=fp32",
        Weights((96, 80), dtype=torch.float16).cuda(),
        warmup=0,
        nonfinite="raise",
    )
    given = [torch.full((96, 80), 60000.0).half().cuda()]
    ddp(given).backward()
    before = state.state_dict()["factors"]["weights.0"]
    with pytest.raises(NonFinite):
        ddp(given).backward()
    assert torch.equal(state.state_dict()["factors"]["weights.0"], before)
    state.close()


def test_a_product_beyond_fp16_is_raised_on_all_ranks(ranks: RanksOfSize) -> None:
    ranks(2)(_overflow)
