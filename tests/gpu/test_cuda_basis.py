"""Shared bases on a CUDA device: the CPU's frames, vectors and pending parts, to the bit."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

import core_calls
from core_calls import spec
from gpu import device_calls
from gpu.device_calls import Guarded, current_stream, needs_gpu, torch
from support import BF16, DTYPES, FP32, Array, label, same_bits, store
from thinwire import InvalidArgument, _core
from thinwire.bench._gpu_launches import Launches
from thinwire.ddp.base_program import Lesson
from thinwire.ddp.bases import MatrixBasis
from thinwire.ddp.pending import Pending
from thinwire.ddp.plan import BasisShape
from thinwire.reference import CODECS, basis, numerics
from vectors.formula import KINDS, values

pytestmark = needs_gpu

PLAN_ID, KEY, STEP = 0xBA5E, 0x0123456789ABCDEF, 5
SHAPES = [
    (1, 64, 1),
    (64, 96, 8),
    (65, 50, 4),
    (130, 33, 9),
    (40, 300, 32),
    (200, 17, 2),
    (7, 1100, 3),
    (3000, 513, 8),
]
"""Rows, columns and rank: groups and tiles of rows and columns, whole and in part."""
CODEC_CHOICES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CODECS),
    ("int4", {"rounding": "stochastic"}),
    ("topk", {"density": 0.1, "values": "int8"}),
    ("topk", {"density": 0.01, "values": "fp16"}),
]

every_codec = pytest.mark.parametrize(
    ("name", "params"), [pytest.param(n, p, id=label(n, p)) for n, p in CODEC_CHOICES]
)
every_shape = pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])


class Vectors(NamedTuple):
    """The same basis on the host and on the device. Must live as long as their layouts."""

    host: numerics.F32
    device: Guarded

    @staticmethod
    def first(columns: int, rank: int) -> Vectors:
        made = basis.begin(columns, rank, key=7)
        return Vectors(made, Guarded(made))

    def natives(self) -> tuple[_core.Basis, _core.Basis]:
        rank, columns = self.host.shape
        addresses = (self.host.ctypes.data, self.device.ptr)
        return _core.Basis(columns, rank, addresses[0]), _core.Basis(columns, rank, addresses[1])


def check_frame(
    segments: list[tuple[int, _core.CodecSpec, Vectors | None]],
    x: Array,
    dtype: int = FP32,
    residual_dtype: int | None = FP32,
    **options: Any,
) -> None:
    """Encode and decode on both sides; everything must be the same."""

    def layout(side: int) -> _core.Layout:
        return _core.Layout(
            [(n, codec, v.natives()[side]) if v else (n, codec) for n, codec, v in segments], PLAN_ID
        )

    olds = None
    if residual_dtype is not None:
        olds = [store(values("cubes", n, -4, seed=n), residual_dtype) for n, _, _ in segments]
    shared: dict[str, Any] = {
        "header": _core.Header(step=STEP),
        "key": KEY,
        "residuals": olds,
        "residual_dtype": residual_dtype or FP32,
        **options,
    }
    want = core_calls.encode(layout(0), x, dtype, **shared)
    got = device_calls.encode(layout(1), x, dtype, **shared)
    assert got.frame == want.frame
    assert got.nonfinite == want.nonfinite
    for new, expected in zip(got.residuals, want.residuals, strict=True):
        assert new is not None
        assert expected is not None
        assert same_bits(new, expected)
    for to, accumulate in itertools.product(DTYPES, (False, True)):
        before = store(values("cubes", x.size, seed=3), to)
        _, expected = core_calls.decode(layout(0), want.frame, before, to, accumulate=accumulate)
        _, decoded = device_calls.decode(layout(1), want.frame, before, to, accumulate=accumulate)
        assert same_bits(decoded, expected)
    assert all(v is None or v.device.unchanged() for _, _, v in segments)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("name", ["int8", "int4", "sign1", "topk", "bf16"])
def test_frames_are_added_in_their_order(name: str, accumulate: bool) -> None:
    """More of them than are decoded in one pass."""
    rows, columns, peers = 65, 50, 5
    vectors = Vectors.first(columns, rank=4)
    layouts = [
        _core.Layout([(rows * columns, spec(name, {}), native), (37, spec("int4", {}))], PLAN_ID)
        for native in vectors.natives()
    ]
    x = [values("cubes", layouts[0].count, seed=seed) for seed in range(peers + 1)]
    launches = Launches(torch, layouts[1], torch.from_numpy(x[peers]).cuda(), frames=peers)
    want = x[peers]
    for i in range(peers):
        frame = core_calls.encode(layouts[0], x[i]).frame
        launches.frames[i][: len(frame)] = torch.from_numpy(np.frombuffer(frame, np.uint8).copy())
        want = core_calls.decode(layouts[0], frame, want, accumulate=accumulate or i > 0)[1]
    launches.decode(launches.values, accumulate)
    assert same_bits(launches.values.cpu().numpy(), want)


@every_codec
@every_shape
def test_frames_have_the_bits_of_the_cpu(name, params, rows, columns, rank):
    n = rows * columns
    segment = (n, spec(name, params), Vectors.first(columns, rank))
    check_frame([segment], values("cubes", n, seed=1))
    check_frame([segment], store(values("cubes", n, seed=2), BF16), BF16, residual_dtype=None)


@every_codec
@pytest.mark.parametrize("kind", KINDS)
def test_special_values(name, params, kind):
    check_frame([(130 * 33, spec(name, params), Vectors.first(33, 9))], values(kind, 130 * 33))


@pytest.mark.parametrize("name", ["int4", "sign1", "topk"])
@every_dtype
def test_dtypes_scales_and_held_segments(name, dtype):
    n = 130 * 33
    segment, x = (n, spec(name, {}), Vectors.first(33, 9)), store(values("cubes", n, seed=1), dtype)
    for residual_dtype, held, mode in itertools.product(
        [FP32, BF16], [False, True], ["in place", "apart", "out only"]
    ):
        check_frame([segment], x, dtype, residual_dtype, held=[held], mode=mode, scale=0.3)


def test_more_bases_than_a_launch_takes():
    segments: list[tuple[int, _core.CodecSpec, Vectors | None]] = []
    for i in range(40):
        rows, columns, rank = SHAPES[i % 7]
        segments.append((rows * columns, spec(["sign1", "topk"][i % 2], {}), Vectors.first(columns, rank)))
        segments.append((100 + i, spec("int4", {}), None))
    check_frame(segments, values("cubes", sum(n for n, _, _ in segments), seed=1))


def test_a_basis_in_host_memory_is_refused():
    vectors = basis.begin(64, 4, key=7)
    native = _core.Basis(64, 4, vectors.ctypes.data)
    layout = _core.Layout([(64 * 64, spec("int2", {}), native)], PLAN_ID)
    x = values("cubes", 64 * 64)
    with pytest.raises(InvalidArgument, match="the shared basis is not in the memory of a CUDA device"):
        device_calls.encode(layout, x)
    frame = core_calls.encode(layout, x).frame
    with pytest.raises(InvalidArgument, match="the shared basis is not in the memory of a CUDA device"):
        device_calls.decode(layout, frame, x)


class Matrix(NamedTuple):
    """What one side has of a matrix: its basis, what it keeps for later, and its gradient."""

    basis: MatrixBasis
    pending: Pending | None
    gradient: torch.Tensor

    @staticmethod
    def on(device: str, shape: tuple[int, int, int], gradient: torch.Tensor, share: float) -> Matrix:
        _, columns, rank = shape
        there = gradient.to(device)
        kept = Pending(there) if share < 1 else None
        return Matrix(MatrixBasis(there, BasisShape(rank, columns), 1), kept, there)

    def lesson(self, share: float) -> Lesson:
        return Lesson(self.basis, 0, len(self.gradient), self.pending, share)

    def commit(self) -> None:
        self.basis.commit()
        if self.pending is not None:
            self.pending.commit()

    def state(self) -> list[torch.Tensor]:
        kept = [self.pending.current] if self.pending is not None else []
        return [t.cpu() for t in (self.gradient, self.basis.current, *kept)]


def equal_bits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    bits = torch.int32 if wanted.dtype == torch.float32 else torch.int16
    return torch.equal(found.view(bits), wanted.view(bits))


def check_lessons(shapes: list[tuple[int, int, int]], kind: str, dtype: int, share: float) -> None:
    """Learn and hand over twice on both sides, then find nothing; all matrices in one call on the device."""
    tensors = [
        torch.from_numpy(values(kind, rows * columns, seed=rows).reshape(rows, columns)).to(
            device_calls.TORCH_DTYPES[dtype]
        )
        for rows, columns, _ in shapes
    ]
    host = [Matrix.on("cpu", s, t.clone(), share) for s, t in zip(shapes, tensors, strict=True)]
    device = [Matrix.on("cuda", s, t, share) for s, t in zip(shapes, tensors, strict=True)]
    for step in range(3):
        for matrix in [*host, *device] if step == 2 else ():
            matrix.gradient.zero_()
        for matrix in host:
            matrix.lesson(share).take(matrix.gradient.data_ptr(), dtype, 0)
        lessons = [matrix.lesson(share).on_device(matrix.gradient.data_ptr()) for matrix in device]
        _core.cuda_learn(lessons, dtype, current_stream())
        for one, other in zip(device, host, strict=True):
            one.commit()
            other.commit()
            for found, wanted in zip(one.state(), other.state(), strict=True):
                assert equal_bits(found, wanted)


@every_dtype
@pytest.mark.parametrize("share", [0.25, 1])
def test_learning_and_handing_over_have_the_bits_of_the_cpu(dtype, share):
    for shape in SHAPES:
        check_lessons([shape], "cubes", dtype, share)


@pytest.mark.parametrize("kind", KINDS)
def test_lessons_of_special_values(kind):
    check_lessons([(130, 33, 9), (7, 1100, 3)], kind, FP32, 0.25)


def test_more_lessons_than_a_launch_takes():
    check_lessons(SHAPES[:7] * 6, "cubes", FP32, 0.25)


def test_a_tall_and_a_wide_matrix():
    check_lessons([(50_000, 64, 8), (16, 1 << 15, 8), (4096, 1024, 32)], "cubes", FP32, 0.25)


def test_nothing_waits_for_the_device():
    """What is learnt is launched in the order of the stream."""
    shape, side = (64, 96, 8), torch.cuda.Stream()
    late = torch.from_numpy(values("cubes", 64 * 96).reshape(64, 96))
    host, device = (
        Matrix.on("cpu", shape, late.clone(), 1),
        Matrix.on("cuda", shape, torch.zeros(64, 96), 1),
    )
    ready = late.cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        device.gradient.copy_(ready)
        _core.cuda_learn([device.lesson(1).on_device(device.gradient.data_ptr())], FP32, current_stream())
        assert not side.query()
        device.commit()
    side.synchronize()
    host.lesson(1).take(host.gradient.data_ptr(), FP32, 0)
    host.commit()
    assert equal_bits(device.basis.current.cpu(), host.basis.current)


def test_a_matrix_in_host_memory_is_refused():
    matrix = Matrix.on("cpu", (64, 96, 8), torch.zeros(64, 96), 1)
    lesson = matrix.lesson(1).on_device(matrix.gradient.data_ptr())
    with pytest.raises(InvalidArgument, match="the matrix is not in the memory of a CUDA device"):
        _core.cuda_learn([lesson], FP32, current_stream())
