"""The hook gives the bits of `thinwire.reference.powersgd`: means, residuals, factors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddp.factors import CODEC
from ddp.ranks import Ranks
from ddp.training import Weights, attached, noise
from thinwire import _core
from thinwire.ddp import powersgd
from thinwire.reference import powersgd as reference

pytest.importorskip("xxhash")


def _bits(rank: int) -> Any:
    """Run some steps; return frames, and this rank's gradients, means, residuals and factors by step."""
    from ddp.test_against_reference import _frames

    model = Weights((300, 70), (64, 128))
    ddp, state = attached(CODEC, model, {"bucket_cap_mb": 25}, warmup=0)
    order = {id(p): i for i, p in enumerate(model.weights)}
    steps = []
    for step in range(3):
        gradients = [noise(rank + 10 * i, step, *p.shape) for i, p in enumerate(model.weights)]
        ddp.zero_grad()
        ddp(gradients).backward()
        saved = state.state_dict()
        known = state._engine._planner._known[0].programs[powersgd.sends_left(step)]
        steps.append(
            {
                "order": [order[id(p)] for p in known.parameters],
                "frames": _frames(known.plan),
                "gradients": [g.numpy() for g in gradients],
                "means": [p.grad.numpy().copy() for p in model.weights],
                "residuals": [saved["residuals"][f"weights.{i}"].numpy() for i in range(2)],
                "factors": [saved["factors"][f"weights.{i}"].numpy() for i in range(2)],
            }
        )
    state.close()
    return steps


@pytest.mark.parametrize("size", [2, 3])
def test_bits_of_the_reference(ranks: Callable[[int], Ranks], size: int) -> None:
    from thinwire.reference import basis

    found = ranks(size)(_bits)
    shapes = [(300, 70), (64, 128)]
    residuals = [[np.zeros(shape, np.float32) for shape in shapes] for _ in range(size)]
    pairs = []
    for rows, columns in shapes:
        key = _core.xxh3_64(struct.pack("<QQQQ", 0, 4, rows, columns))
        pairs.append((basis.begin(rows, 4, key), basis.begin(columns, 4, key)))
    for step in range(3):
        _compare([ranks_steps[step] for ranks_steps in found], residuals, pairs, step)


def _compare(
    found: list[Any], residuals: list[list[np.ndarray]], pairs: list[tuple[np.ndarray, np.ndarray]], step: int
) -> None:
    """Check one step of all ranks; `residuals` and `pairs` become those of the next."""
    from ddp.test_against_reference import _parts
    from thinwire.reference import direct, frame, numerics

    size, order, is_left = len(found), found[0]["order"], reference.sends_left(step)
    ys, factors = [], []
    for told, old in zip(found, residuals, strict=True):
        gradients = zip(told["gradients"], old, strict=True)
        y = [numerics.encoder_input(gradient, 1 / size, residual) for gradient, residual in gradients]
        ys.append(y)
        factors.append([_factor_of(is_left, *pair, v) for pair, v in zip(pairs, y, strict=True)])
    given = [np.concatenate([f[i].reshape(-1) for i in order]) for f in factors]
    parts = _parts(order, found[0]["frames"], {})
    zeros = [np.zeros_like(given[0])] * size
    result = direct.all_reduce(zeros, given, parts, header=frame.Header(step=step))
    start = 0
    for i in order:
        shape = factors[0][i].shape
        place = slice(start, start + factors[0][i].size)
        start = place.stop
        mean, (left, right) = result.values[place].reshape(shape), pairs[i]
        delivered = reference.received(*((mean, right) if is_left else (left, mean)))
        renewed = reference.orthonormal(mean)
        pairs[i] = (renewed, right) if is_left else (left, renewed)
        for rank, told in enumerate(found):
            sent = factors[rank][i] - result.residuals[rank][place].reshape(shape)
            residuals[rank][i] = reference.kept(ys[rank][i], *((sent, right) if is_left else (left, sent)))
            np.testing.assert_array_equal(told["means"][i], delivered)
            np.testing.assert_array_equal(told["residuals"][i], residuals[rank][i])
            np.testing.assert_array_equal(told["factors"][i], np.concatenate([s.ravel() for s in pairs[i]]))


def _factor_of(is_left: bool, left: np.ndarray, right: np.ndarray, y: np.ndarray) -> np.ndarray:
    return reference.left_factor(right, y) if is_left else reference.right_factor(left, y)
