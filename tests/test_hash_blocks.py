"""Digests of many blocks of one buffer are those of every block by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import blake3
import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import thinwire
from thinwire import InvalidArgument, _core

KEY = bytes(range(32))
SECRET = np.random.default_rng(1).bytes(136)
DATA = np.random.default_rng(2).bytes(4 << 20)

Ends = npt.NDArray[np.int64]
HashBlocks = Callable[..., npt.NDArray[np.uint8]]
every_kind = pytest.mark.parametrize("hash_blocks", [_core.blake3_blocks, _core.xxh3_128_blocks])

around_edges = st.builds(
    lambda edge, step: edge + step,
    st.sampled_from([16, 64, 128, 240, 960, *(k * 1024 for k in range(1, 5)), 16 * 1024, 17 * 1024]),
    st.integers(-1, 1),
)
block_lengths = st.lists(
    st.one_of(st.integers(1, 4096), around_edges, st.sampled_from([1, 64, 1024])), max_size=60
)


def blocks_of(
    lengths: Sequence[int], data: bytes = DATA
) -> tuple[memoryview, np.ndarray, Iterator[memoryview]]:
    """Return the data, the ends of blocks of these lengths, and the blocks."""
    ends = np.cumsum(lengths, dtype=np.int64)
    whole = memoryview(data)[: sum(lengths)]
    return whole, ends, (whole[end - length : end] for end, length in zip(ends, lengths, strict=True))


def check_all(lengths: Sequence[int], threads: int = 1) -> None:
    data, ends, pieces = blocks_of(lengths)
    digests = _core.blake3_blocks(data, ends, threads=threads)
    keyed = _core.blake3_blocks(data, ends, KEY, threads)
    fast = _core.xxh3_128_blocks(data, ends, threads=threads)
    secret = _core.xxh3_128_blocks(data, ends, SECRET, threads)
    assert digests.shape == keyed.shape == (len(lengths), 32)
    assert fast.shape == secret.shape == (len(lengths), 16)
    for i, piece in enumerate(pieces):
        assert digests[i].tobytes() == blake3.blake3(piece).digest(), (i, len(piece))
        assert keyed[i].tobytes() == blake3.blake3(piece, key=KEY).digest(), (i, len(piece))
        assert fast[i].tobytes() == xxhash.xxh3_128_digest(piece), (i, len(piece))
        assert secret[i].tobytes() == _core.xxh3_128(piece, secret=SECRET), (i, len(piece))


@pytest.mark.parametrize("name", _core.targets())
@settings(deadline=None)
@given(lengths=block_lengths)
def test_ragged_blocks(name: str, lengths: list[int]) -> None:
    with thinwire.force_target(name):
        check_all(lengths)


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(
    "lengths",
    [
        [*range(1, 1100)],
        [1] * 2000,
        [1024] * 33,
        [k * 1024 + step for k in range(1, 34) for step in (-1, 0, 1)],
        [5, 1 << 20, 3, (1 << 20) + 1, 1, (1 << 20) - 7],  # as much as is hashed together, and more
        [40_000, 65_536, 16_384, 33_333] * 10,
    ],
    ids=["every length", "bytes", "chunks", "around chunks", "around the largest", "ordinary"],
)
def test_blocks_of_every_size(lengths: list[int]) -> None:
    check_all(lengths)


@pytest.mark.parametrize("threads", [0, 2, 7])
def test_threads_change_nothing(threads: int) -> None:
    check_all([*np.random.default_rng(3).integers(1, 100_000, 60)], threads)


def test_one_block_is_the_whole() -> None:
    whole = np.array([len(DATA)], np.int64)
    assert _core.blake3_blocks(DATA, whole).tobytes() == thinwire.blake3(DATA)
    assert _core.xxh3_128_blocks(DATA, whole).tobytes() == thinwire.xxh3_128(DATA)


@every_kind
def test_no_blocks(hash_blocks: HashBlocks) -> None:
    assert len(hash_blocks(b"", np.empty(0, np.int64))) == 0


@every_kind
@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([], "length of the data, 10, but is 0"),
        ([4, 9], "length of the data, 10, but is 9"),
        ([4, 11], "length of the data, 10, but is 11"),
        ([0, 10], "block 0 goes from 0 to 0"),
        ([4, 4, 10], "block 1 goes from 4 to 4"),
        ([6, 4, 10], "block 1 goes from 6 to 4"),
        ([-1, 10], "block 0 goes from 0 to -1"),
        ([2**62, 10], "block 1 goes from"),
        ([[4, 10]], "one dimension, not 2"),
    ],
)
def test_ends_that_cannot_be(hash_blocks: HashBlocks, ends: list[int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        hash_blocks(bytes(10), np.array(ends, np.int64))


@every_kind
def test_ends_are_whole_numbers(hash_blocks: HashBlocks) -> None:
    with pytest.raises(TypeError):
        hash_blocks(bytes(10), np.array([4.0, 10.0]))


@every_kind
def test_data_without_gaps_of_any_kind(hash_blocks: HashBlocks) -> None:
    array, ends = np.arange(3000, dtype=np.float32), np.array([5000, 12_000], np.int64)
    assert (hash_blocks(array.data, ends) == hash_blocks(array.tobytes(), ends)).all()
    with pytest.raises(InvalidArgument, match="contiguous"):
        hash_blocks(array[::2].data, ends)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(InvalidArgument, match=f"32 bytes, this one has {length}"):
        _core.blake3_blocks(b"data", np.array([4]), bytes(length))
