"""The hook gives the bits of `thinwire.reference.direct`: results and residuals, over several steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddp.ranks import Ranks
from ddp.training import Weights, attached, noise
from thinwire.ddp.plan import Plan

pytest.importorskip("xxhash")

SHAPES = [(300, 70), (5,), (64, 64), (2048, 9)]
STEPS = 3


def _parts(plan: Plan) -> list[Any]:
    """Return the reference's description of every frame of a plan."""
    from thinwire.reference.direct import Part, Segment

    parts = []
    for index, piece in enumerate(plan.pieces):
        for share in piece.shares:
            if share.count == 0:
                continue
            specs = [(segment.count, segment.codec.resolve(segment.count)) for segment in share.segments]
            segments = [Segment(count, spec.name, spec.params) for count, spec in specs]
            parts.append(Part(share.owner, tuple(segments), index, plan.plan_id))
    return parts


def _run(rank: int, codec: str, idle: int | None) -> Any:
    """Run some steps; return the plan's parts, and this rank's gradients, means and residuals by step."""
    model = Weights(*SHAPES)
    options = {"bucket_cap_mb": 25, "find_unused_parameters": True}  # one layout from the first step on
    ddp, state = attached(codec, model, options, warmup=0)
    steps = []
    for step in range(STEPS):
        gradients = [noise(rank + 10 * i, step, *shape) for i, shape in enumerate(SHAPES)]
        if idle == rank and step == 1:
            gradients[0].zero_()
        ddp.zero_grad()
        ddp(gradients).backward()
        means = [p.grad.numpy().copy() for p in model.weights]
        residuals = state.state_dict()["residuals"]
        steps.append(([g.numpy() for g in gradients], means, {k: v.numpy() for k, v in residuals.items()}))
    programs = [known.program for known in state._engine._planner._known.values()]
    order = {id(p): i for i, p in enumerate(model.weights)}
    layouts = [([order[id(p)] for p in program.parameters], _parts(program.plan)) for program in programs]
    state.close()
    return layouts, steps


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "codec", ["raw", "bf16", "int8", "int4:block=32", "sign1", "topk", "topk:values=int8"]
)
def test_bits_of_the_reference(ranks: Callable[[int], Ranks], codec: str, size: int) -> None:
    _compare(ranks(size)(_run, codec, None), size)


def test_bits_of_the_reference_with_a_held_parameter(ranks: Callable[[int], Ranks]) -> None:
    _compare(ranks(2)(_run, "int4", 1), 2, held=(1, 1, 0))


def _compare(found: list[Any], size: int, held: tuple[int, int, int] | None = None) -> None:
    """`held` is (step, rank, parameter) of a gradient that was zero."""
    from thinwire.reference import frame
    from thinwire.reference.direct import all_reduce

    for bucket, (order, parts) in enumerate(found[0][0]):
        shapes = [SHAPES[i] for i in order]
        residuals = [_join([np.zeros(shape, np.float32) for shape in shapes]) for _ in range(size)]
        for step in range(STEPS):
            gradients = [_join([found[r][1][step][0][i] for i in order]) for r in range(size)]
            masks = [np.zeros(gradients[0].size, dtype=np.bool_) for _ in range(size)]
            if held and held[0] == step:
                masks[held[1]] = _join([np.full(SHAPES[i], i == held[2]) for i in order])
            header = frame.Header(step=step, bucket=bucket)
            result = all_reduce(gradients, residuals, parts, held=masks, header=header)
            for r in range(size):
                _, means, kept = found[r][1][step]
                np.testing.assert_array_equal(_join([means[i] for i in order]), result.values)
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
