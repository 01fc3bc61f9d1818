"""Counters of fields: against NumPy and the reference, of every dtype, merged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thinwire as tw
from data.counted import FLOATS, INTEGERS, any_values, check, only_field
from thinwire.data import Quality
from thinwire.data.bins import BINS, MIDDLES, RISING
from thinwire.errors import InvalidArgument
from thinwire.reference import numerics
from thinwire.reference import summary as reference


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("type", ["bool", *INTEGERS, *FLOATS])
def test_every_dtype_is_counted_as_the_reference_counts(type: str) -> None:
    with np.errstate(all="ignore"):
        for count in (1, 7, 8, 9, 1024, 2500):
            values = any_values(type, count, seed=count)
            quality = Quality(duplicates=False)
            quality.update(values)
            check(only_field(quality), reference.counters(values))


def test_bfloat16_is_counted_from_its_bits() -> None:
    bits = any_values("uint16", 3000)
    values = numerics.from_bf16(bits)
    for array, fields in ((bits.view("V2"), None), (bits.view("V2"), "bfloat16")):
        quality = Quality(fields)
        quality.update(array)
        check(only_field(quality), reference.counters(values))


def test_tensors_are_counted() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(600, dtype=torch.float32).reshape(100, 6)
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        quality = Quality()
        quality.update(tensor.to(dtype))
        check(only_field(quality), reference.counters(tensor.to(dtype).to(torch.float64).numpy()))
        assert quality.records == 100


def test_every_target_comes_to_the_same_bits() -> None:
    values = any_values("float32", 100_003)
    states = []
    for target in tw.targets():
        with tw.force_target(target):
            quality = Quality(duplicates=False)
            quality.update(values)
            states.append(quality.state())
    assert all(state == states[0] for state in states)


def test_denormals_count_where_the_thread_flushes_them() -> None:
    torch = pytest.importorskip("torch")
    values = np.full(64, 2.0**-140, np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        quality = Quality()
        quality.update(values)
    finally:
        torch.set_flush_denormal(False)
    assert only_field(quality).zeros == 0
    assert only_field(quality).mean == 2.0**-140


def test_bins_cover_the_line_in_order() -> None:
    assert sorted(RISING.tolist()) == list(range(BINS))
    assert (np.diff(MIDDLES) >= 0).all()
    for at in (0, 1, 15, 16, 17, 2000, 254 * 16 + 15):
        place = RISING.tolist().index(at)
        assert reference.bin_of(float(MIDDLES[place])) == at
        assert math.copysign(1, MIDDLES[place]) > 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=64, allow_nan=False, allow_infinity=False), min_size=1, max_size=50),
    st.floats(0, 1),
)
def test_quantiles_are_within_their_bound(values: list[float], share: float) -> None:
    quality = Quality()
    quality.update(np.array(values))
    ranked = sorted(values)
    expected = ranked[max(1, math.ceil(share * len(values))) - 1]
    found = only_field(quality).quantile(share)
    if abs(expected) < 2.0**128:
        assert abs(found - expected) <= max(2.0**-5 * abs(expected), 2.0**-130)


def test_quantiles_of_small_integers_are_exact() -> None:
    values = np.arange(-31, 32, dtype=np.int64)
    quality = Quality()
    quality.update(values)
    for at, value in enumerate(values):
        assert only_field(quality).quantile((at + 1) / len(values)) == value
    with pytest.raises(InvalidArgument, match=r"share is 1\.5"):
        only_field(quality).quantile(1.5)


def test_merging_means_loses_no_digits() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=20_000)
    quality = Quality(duplicates=False)
    for part in np.array_split(values, 37):
        quality.update(part)
    assert only_field(quality).variance == pytest.approx(np.var(values), rel=1e-7)
