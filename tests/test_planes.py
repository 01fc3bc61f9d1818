"""Byte planes against NumPy's transpose."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thinwire
from thinwire import InvalidArgument, _core

DATA = np.random.default_rng(8).integers(0, 256, 200_000, np.uint8)
Bytes = npt.NDArray[np.uint8]

every_width = pytest.mark.parametrize("width", [2, 4])
lengths = st.one_of(st.integers(0, 600), st.integers(0, 70_000))


def planes_of(data: Bytes, width: int) -> Bytes:
    whole = data.size // width * width
    return np.concatenate([data[:whole].reshape(-1, width).T.ravel(), data[whole:]])


def entropy_of(data: Bytes) -> float:
    share = np.unique(data, return_counts=True)[1] / data.size
    return float(-(share * np.log2(share)).sum())


@every_width
@pytest.mark.parametrize("name", _core.targets())
@given(length=lengths, offset=st.integers(0, 63))
def test_split_and_merge(name: str, width: int, length: int, offset: int) -> None:
    data = DATA[offset : offset + length]
    guarded = np.full(length + 128, 0x5A, np.uint8)
    with thinwire.force_target(name):
        planes = _core.split_planes(data, width)
        _core.merge_planes(planes, width, guarded[64:-64].data)
    np.testing.assert_array_equal(planes, planes_of(data, width))
    np.testing.assert_array_equal(guarded[64:-64], data)
    assert (guarded[:64] == 0x5A).all()
    assert (guarded[-64:] == 0x5A).all()


@every_width
def test_buffers_of_any_kind(width: int) -> None:
    floats = np.arange(300, dtype=np.float32)
    planes = _core.split_planes(floats.data, width)
    np.testing.assert_array_equal(planes, planes_of(floats.view(np.uint8), width))
    merged = np.zeros_like(floats)
    _core.merge_planes(planes.tobytes(), width, merged)
    np.testing.assert_array_equal(merged, floats)


@every_width
def test_refused_buffers(width: int) -> None:
    gaps = np.zeros(100, np.uint8)[::2]
    with pytest.raises(InvalidArgument, match="contiguous"):
        _core.split_planes(gaps, width)
    with pytest.raises(InvalidArgument, match="contiguous"):
        _core.plane_entropies(gaps, width)
    with pytest.raises(InvalidArgument, match="contiguous"):
        _core.merge_planes(bytes(50), width, gaps)
    with pytest.raises(InvalidArgument, match="50 bytes need as many to be written to, not 49"):
        _core.merge_planes(bytes(50), width, bytearray(49))
    with pytest.raises(BufferError):
        _core.merge_planes(bytes(50), width, bytes(50))


@pytest.mark.parametrize("width", [0, 1, 3, 8])
def test_refused_widths(width: int) -> None:
    with pytest.raises(InvalidArgument, match=f"2 or 4 bytes, not of {width}"):
        _core.split_planes(bytes(8), width)
    with pytest.raises(InvalidArgument, match=f"2 or 4 bytes, not of {width}"):
        _core.merge_planes(bytes(8), width, bytearray(8))
    with pytest.raises(InvalidArgument, match=f"2 or 4 bytes, not of {width}"):
        _core.plane_entropies(bytes(8), width)


@every_width
@given(length=st.integers(4, 65_536))
def test_entropies_of_all_that_is_small(width: int, length: int) -> None:
    data = DATA[:length] & np.uint8(31)
    whole = data[: length // width * width].reshape(-1, width)
    expected = [entropy_of(whole[:, k]) for k in range(width)]
    np.testing.assert_allclose(_core.plane_entropies(data, width), expected, atol=1e-9)


@every_width
def test_entropies_of_nothing(width: int) -> None:
    assert _core.plane_entropies(b"", width).tolist() == [0.0] * width
    assert _core.plane_entropies(b"x", width).tolist() == [0.0] * width


def test_entropies_tell_planes_apart() -> None:
    weights = (np.random.default_rng(1).standard_normal(1 << 18) * 0.02).astype(np.float32)
    entropies = _core.plane_entropies(weights, 4)
    assert entropies.shape == (4,)
    assert (entropies[:3] > 6.5).all()
    assert entropies[3] < 4


def test_the_sample_is_spread_from_end_to_end() -> None:
    runs = np.zeros((1024, 1024), np.uint8)
    for r in range(64):  # the runs that are looked at: the first, the last, and at equal steps between
        runs.reshape(-1)[1047552 // 4 * r // 63 * 4 :][:1024] = r
    assert _core.plane_entropies(runs, 4) == pytest.approx([6.0] * 4)
    assert _core.plane_entropies(np.zeros(1 << 20, np.uint8), 4).tolist() == [0.0] * 4
