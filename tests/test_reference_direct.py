"""The reference's direct all-reduce: what it must keep, whatever the codec."""

from __future__ import annotations

import numpy as np
import pytest

from thinwire.reference import CODECS, frame, numerics
from thinwire.reference.direct import Part, Segment, all_reduce, decode_part
from vectors.formula import values

N = 1000
RANKS = 3


def bucket(seed: int, exponent: int = 0) -> list[numerics.F32]:
    return [values("cubes", N, exponent, seed=seed + r) for r in range(RANKS)]


def parts(codec: str, plan_id: int | None = 7) -> list[Part]:
    """Two owners; the first part mixes codecs."""
    first = (Segment(100, "bf16"), Segment(412, codec))
    return [Part(0, first, slice=0, plan_id=7), Part(2, (Segment(N - 512, codec),), slice=1, plan_id=plan_id)]


def zeros() -> list[numerics.F32]:
    return [np.zeros(N, dtype=np.float32) for _ in range(RANKS)]


@pytest.mark.parametrize("codec", CODECS)
def test_results_and_residuals_hold_everything(codec):
    gradients, residuals = bucket(1), bucket(10, -3)
    result = all_reduce(gradients, residuals, parts(codec))
    arrived = sum(g.astype(np.float64) / RANKS + r for g, r in zip(gradients, residuals, strict=True))
    left = result.values.astype(np.float64) + sum(r.astype(np.float64) for r in result.residuals)
    assert np.allclose(left, arrived, rtol=0, atol=1e-6)


@pytest.mark.parametrize("codec", CODECS)
def test_over_many_steps_nothing_drifts_away(codec):
    residuals, delivered, wanted = zeros(), np.zeros(N), np.zeros(N)
    for step in range(20):
        gradients = bucket(100 + 10 * step)
        result = all_reduce(gradients, residuals, parts(codec), header=frame.Header(step=step))
        residuals, delivered = result.residuals, delivered + result.values
        wanted += sum(g.astype(np.float64) for g in gradients) / RANKS
    assert np.allclose(delivered + sum(r.astype(np.float64) for r in residuals), wanted, rtol=0, atol=1e-5)


def test_raw_adds_the_owner_first_and_the_others_in_order_of_rank():
    gradients = bucket(2)
    result = all_reduce(gradients, zeros(), [Part(1, (Segment(N, "raw"),))], weights=[0.3, 0.5, 0.2])
    shares = [g * np.float32(w) for g, w in zip(gradients, [0.3, 0.5, 0.2], strict=True)]
    assert result.values.tobytes() == ((shares[1] + shares[0]) + shares[2]).tobytes()


def test_frames_say_who_sent_what():
    header = frame.Header(group=4, step=5, bucket=6)
    weights = [0.5, 0.25, 0.25]
    result = all_reduce(bucket(3), zeros(), parts("int8", None), weights=weights, header=header)
    assert sorted(result.to_owner) == [(0, 1), (0, 2), (1, 0), (1, 1)]
    for (index, sender), encoded in result.to_owner.items():
        h, _ = frame.parse(encoded)
        assert (h.group, h.step, h.bucket, h.slice, h.sender, h.phase) == (4, 5, 6, index, sender, 1)
        assert h.weight == weights[sender]
    (plan, _), (single, _) = (frame.parse(encoded) for encoded in result.from_owner)
    assert (plan.codec, plan.param, plan.count, plan.sender, plan.phase) == (frame.PLAN, 7, 512, 0, 2)
    assert (single.codec, single.param, single.count, single.sender) == (4, 256, 488, 2)


def test_every_rank_gets_the_bytes_of_the_owner():
    cut = parts("int4")
    result = all_reduce(bucket(4), bucket(5, -5), cut)
    decoded = [decode_part(part, encoded) for part, encoded in zip(cut, result.from_owner, strict=True)]
    assert np.concatenate(decoded).tobytes() == result.values.tobytes()


@pytest.mark.parametrize("codec", ["fp8", "int8", "int4", "int2", "ternary", "sign1", "topk"])
def test_a_held_segment_keeps_its_residual(codec):
    gradients, residuals, cut = zeros(), bucket(6), parts(codec)
    held = [np.arange(N) < 100] * RANKS  # the first segment, on every rank
    result = all_reduce(gradients, residuals, cut, held=held)
    assert (result.values[:100] == 0).all()
    assert np.any(result.values[100:])
    for before, after in zip(residuals, result.residuals, strict=True):
        assert (after[:100] == before[:100]).all()
        assert np.any(after[100:] != before[100:])


def test_a_held_owner_adds_its_rounding_of_the_others_sum():
    gradients, residuals = bucket(7), bucket(8, -4)
    gradients[0] = np.zeros(N, dtype=np.float32)
    held = [np.full(N, rank == 0) for rank in range(RANKS)]
    cut = [Part(0, (Segment(N, "int4"),))]
    result = all_reduce(gradients, residuals, cut, held=held)
    without = all_reduce(gradients, [np.zeros(N, np.float32), *residuals[1:]], cut)
    assert result.values.tobytes() == without.values.tobytes()
    assert result.residuals[0].tobytes() == (residuals[0] + without.residuals[0]).tobytes()


@pytest.mark.parametrize(
    "codec", ["raw", "fp16", "bf16", "fp8", "int8", "int4", "int2", "ternary", "sign1", "topk"]
)
@pytest.mark.parametrize("rank", range(RANKS))
def test_a_nan_on_any_rank_reaches_all_and_no_residual(codec, rank):
    gradients = bucket(9)
    gradients[rank][700] = np.nan
    result = all_reduce(gradients, zeros(), parts(codec))
    assert np.isnan(result.values[700])
    assert np.isfinite(result.values[:512]).all()
    assert all(np.isfinite(r).all() for r in result.residuals)
    assert [frame.parse(f)[0].flags for f in result.from_owner] == [0, frame.NONFINITE]


def test_one_rank_alone_rounds_once():
    y = values("cubes", N, 0, seed=1)
    result = all_reduce([y], [np.zeros(N, np.float32)], [Part(0, (Segment(N, "int8"),))])
    payload, residual = CODECS["int8"].encode(y)
    assert result.to_owner == {}
    assert frame.parse(result.from_owner[0])[1] == payload
    assert result.residuals[0].tobytes() == residual.tobytes()


def test_ranks_with_keys_of_their_own_round_differently():
    y = values("uniform", N, 0)
    cut = [Part(0, (Segment(N, "int4", {"rounding": "stochastic"}),))]
    result = all_reduce([y, y, y], zeros(), cut, keys=[1, 2, 3])
    assert frame.parse(result.to_owner[0, 1])[1] != frame.parse(result.to_owner[0, 2])[1]
