"""BLAKE3 against the package of its authors."""

from __future__ import annotations

import blake3
import numpy as np
import pytest

import thinwire
from thinwire import InvalidArgument

KEY = bytes(range(100, 132))

LENGTHS = sorted(
    {0, 1, 2, 3, 100, 777, 31744, 102400, 999_983}
    | {edge + step for edge in (64, 128, 960, 1024) for step in (-1, 0, 1)}
    | {(1 << power) + step for power in range(11, 21) for step in (-1, 0, 1)}
    | {chunks * 1024 + step for chunks in range(3, 35) for step in (0, 1)}
)
"""Around every edge: of blocks, of chunks, of the batches that are hashed at once, of subtrees."""


def data_of(length: int) -> bytes:
    return np.random.default_rng(length).bytes(length)


@pytest.mark.usefixtures("target")
def test_equals_the_authors_package() -> None:
    for length in LENGTHS:
        data = data_of(length)
        assert thinwire.blake3(data) == blake3.blake3(data).digest(), length
        assert thinwire.blake3(data, key=KEY) == blake3.blake3(data, key=KEY).digest(), length


@pytest.mark.parametrize("offset", range(1, 8))
def test_data_may_lie_anywhere(offset: int) -> None:
    data = memoryview(data_of(40_000))[offset:]
    assert thinwire.blake3(data) == blake3.blake3(data).digest()


def test_takes_any_contiguous_buffer() -> None:
    array = np.arange(3000, dtype=np.float32)
    assert thinwire.blake3(array.data) == thinwire.blake3(array.tobytes())
    assert thinwire.blake3(array.data, key=bytearray(KEY)) == thinwire.blake3(array.data, KEY)
    with pytest.raises(InvalidArgument, match="contiguous"):
        thinwire.blake3(array[::2].data)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(InvalidArgument, match=f"32 bytes, this one has {length}"):
        thinwire.blake3(b"data", key=bytes(length))
