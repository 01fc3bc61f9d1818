"""The hook gives the bits of `thinwire.reference.direct`: results, residuals, bases, over several steps."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddp.ranks import Ranks
from ddp.training import Weights, attached, noise
from thinwire import _core
from thinwire.ddp.plan import Plan
from thinwire.ddp.policy import DEFAULT_SHARES

pytest.importorskip("xxhash")

SHAPES = [(300, 70), (5,), (64, 64), (2048, 9)]
STEPS = 3
WITH_BASIS = ("int2", "ternary", "sign1", "topk", "topk:values=int8")
BASES = {0: (8, 70), 2: (8, 64), 3: (1, 9)}
"""Vectors and columns of the matrices' bases at rank 8: the last has too few columns for more than one."""


def _parts(order: list[int], frames: list[Any], vectors: dict[int, np.ndarray]) -> list[Any]:
    """Return a bucket's parts for the reference; `vectors` are the bases by parameter."""
    from thinwire.reference.direct import Part, Segment

    parts = []
    for owner, index, plan_id, segments in frames:
        inside = [Segment(n, codec, params, vectors.get(order[i])) for i, n, codec, params in segments]
        parts.append(Part(owner, tuple(inside), index, plan_id))
    return parts


def _frames(plan: Plan) -> list[Any]:
    """Return owner, slice, plan and segments of every frame; a segment is parameter, count and codec."""
    frames = []
    for index, piece in enumerate(plan.pieces):
        for share in piece.shares:
            specs = [(s.parameter, s.count, s.coding.codec.resolve(s.count)) for s in share.segments]
            segments = [(parameter, count, spec.name, spec.params) for parameter, count, spec in specs]
            if segments:
                frames.append((share.owner, index, plan.plan_id, segments))
    return frames


def _run(rank: int, codec: str, idle: int | None) -> Any:
    """Run some steps; return the buckets, and this rank's gradients, means, residuals and bases by step."""
    model = Weights(*SHAPES)
    options = {"bucket_cap_mb": 25, "find_unused_parameters": True}  # one layout from the first step on
    ddp, state = attached(codec, model, options, warmup=0, basis=8 if codec in WITH_BASIS else 0)
    steps = []
    for step in range(STEPS):
        gradients = [noise(rank + 10 * i, step, *shape) for i, shape in enumerate(SHAPES)]
        if idle == rank and step == 1:
            gradients[0].zero_()
        ddp.zero_grad()
        ddp(gradients).backward()
        means = [p.grad.numpy().copy() for p in model.weights]
        saved = state.state_dict()
        residuals, bases = ({k: v.numpy() for k, v in saved[what].items()} for what in ("residuals", "bases"))
        steps.append(([g.numpy() for g in gradients], means, residuals, bases))
    programs = state._engine._planner.programs()
    order = {id(p): i for i, p in enumerate(model.weights)}
    buckets = [([order[id(p)] for p in program.parameters], _frames(program.plan)) for program in programs]
    state.close()
    return buckets, steps


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "codec",
    [
        "raw",
        "bf16",
        "fp8",
        "int8",
        "int4:block=32",
        "int4:rotate=true",
        "int2",
        "ternary",
        "sign1",
        "topk",
        "topk:values=int8",
    ],
)
def test_bits_of_the_reference(ranks: Callable[[int], Ranks], codec: str, size: int) -> None:
    _compare(codec, ranks(size)(_run, codec, None), size)


def test_bits_of_the_reference_with_a_held_parameter(ranks: Callable[[int], Ranks]) -> None:
    _compare("int4", ranks(2)(_run, "int4", 1), 2, held=(1, 1, 0))


def test_bits_of_the_reference_with_a_held_parameter_on_a_basis(ranks: Callable[[int], Ranks]) -> None:
    _compare("sign1", ranks(2)(_run, "sign1", 1), 2, held=(1, 1, 0))


def _compare(codec: str, found: list[Any], size: int, held: tuple[int, int, int] | None = None) -> None:
    """`held` is (step, rank, parameter) of a gradient that was zero."""
    from thinwire.reference import basis, frame
    from thinwire.reference.direct import all_reduce

    for number, (order, frames) in enumerate(found[0][0]):
        vectors = {i: _first(*shape) for i, shape in BASES.items()} if codec in WITH_BASIS else {}
        pending = {i: np.zeros(SHAPES[i], np.uint16) for i in vectors}
        shapes = [SHAPES[i] for i in order]
        residuals = [_join([np.zeros(shape, np.float32) for shape in shapes]) for _ in range(size)]
        for step in range(STEPS):
            gradients = [_join([found[r][1][step][0][i] for i in order]) for r in range(size)]
            masks = [np.zeros(gradients[0].size, dtype=np.bool_) for _ in range(size)]
            if held and held[0] == step:
                masks[held[1]] = _join([np.full(SHAPES[i], i == held[2]) for i in order])
            header = frame.Header(step=step, bucket=number)
            result = all_reduce(
                gradients, residuals, _parts(order, frames, vectors), held=masks, header=header
            )
            for r in range(size):
                _, _, kept, _ = found[r][1][step]
                start = 0
                for i in order:
                    stop = start + int(np.prod(SHAPES[i]))
                    name = f"weights.{i}"
                    if name in kept:
                        np.testing.assert_array_equal(kept[name].reshape(-1), result.residuals[r][start:stop])
                    else:  # sent in 16 bit or raw, without a residual
                        result.residuals[r][start:stop] = 0
                    start = stop
            residuals = result.residuals
            handed_over = result.values.copy()
            start = 0
            for i in order:
                stop = start + int(np.prod(SHAPES[i]))
                if i in vectors:
                    matrix = result.values[start:stop].reshape(SHAPES[i])
                    moments = basis.learn(vectors[i], matrix, np.zeros_like(vectors[i]))
                    if (share := _share(codec)) < 1:
                        handed, pending[i] = basis.spread(vectors[i], matrix, share, pending[i])
                        handed_over[start:stop] = handed.reshape(-1)
                    vectors[i] = basis.turn(vectors[i], moments)
                    assert all((f[1][step][3][f"weights.{i}"] == vectors[i]).all() for f in found)
                start = stop
            for _, steps in found:
                means = steps[step][1]
                np.testing.assert_array_equal(_join([means[i] for i in order]), handed_over)


def _share(codec: str) -> float:
    return DEFAULT_SHARES.get(codec.partition(":")[0], 1.0)


def _first(rank: int, columns: int) -> np.ndarray:
    from thinwire.reference import basis

    return basis.begin(columns, rank, _core.xxh3_64(struct.pack("<QQQ", 0, rank, columns)))
