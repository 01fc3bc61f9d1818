"""XXH3-128 against the xxhash package, and with a secret against a reference in Python."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import thinwire
import xxh3_reference
from thinwire import InvalidArgument, _core

DATA = np.random.default_rng(5).bytes(20_000)
SECRET = np.random.default_rng(6).bytes(1000)

lengths = st.one_of(
    st.integers(0, 300),
    st.builds(lambda blocks, step: blocks * 1024 + step, st.integers(1, 16), st.integers(-65, 65)),
    st.integers(0, 19_000),
)
seeds = st.one_of(st.sampled_from([0, 1, 2**32, 2**64 - 1]), st.integers(0, 2**64 - 1))


@pytest.mark.usefixtures("target")
def test_equals_the_xxhash_package_for_every_short_length() -> None:
    for length in [*range(1200), *range(2040, 2060), 4095, 4096, 4097]:
        for seed in (0, 1, 0xFEDCBA9876543210):
            expected = xxhash.xxh3_128_digest(DATA[:length], seed=seed)
            assert thinwire.xxh3_128(DATA[:length], seed) == expected, (length, seed)


@pytest.mark.parametrize("name", _core.targets())
@given(length=lengths, offset=st.integers(0, 63), seed=seeds)
def test_equals_the_xxhash_package(name: str, length: int, offset: int, seed: int) -> None:
    data = memoryview(DATA)[offset : offset + length]
    with thinwire.force_target(name):
        assert thinwire.xxh3_128(data, seed) == xxhash.xxh3_128_digest(data, seed=seed)
        assert _core.xxh3_64(data, seed) == xxhash.xxh3_64_intdigest(data, seed=seed)


@given(length=lengths, seed=seeds)
def test_the_reference_equals_the_xxhash_package(length: int, seed: int) -> None:
    assert xxh3_reference.xxh3_128(DATA[:length], seed) == xxhash.xxh3_128_digest(DATA[:length], seed=seed)


@pytest.mark.parametrize("name", _core.targets())
@given(length=lengths, secret=st.one_of(st.integers(136, 200), st.integers(136, 1000)))
def test_equals_the_reference_with_a_secret(name: str, length: int, secret: int) -> None:
    data, key = DATA[:length], SECRET[:secret]
    with thinwire.force_target(name):
        assert _core.xxh3_128(data, secret=key) == xxh3_reference.xxh3_128(data, secret=key)


@given(length=st.integers(241, 20_000), seed=seeds)
def test_a_seed_stands_for_a_secret_where_data_are_long(length: int, seed: int) -> None:
    secret = xxh3_reference.seeded(seed)
    assert _core.xxh3_128(DATA[:length], secret=secret) == thinwire.xxh3_128(DATA[:length], seed)


def test_takes_any_contiguous_buffer() -> None:
    array = np.arange(3000, dtype=np.float32)
    assert thinwire.xxh3_128(array.data) == thinwire.xxh3_128(bytearray(array.tobytes()))
    with pytest.raises(InvalidArgument, match="contiguous"):
        thinwire.xxh3_128(array[::2].data)


@pytest.mark.parametrize("length", [0, 135])
def test_a_secret_has_136_bytes(length: int) -> None:
    message = f"at least 136 bytes, this one has {length}"
    with pytest.raises(InvalidArgument, match=message):
        _core.xxh3_128(b"data", secret=bytes(length))
    with pytest.raises(InvalidArgument, match=message):
        _core.xxh3_128_blocks(b"", np.empty(0, np.int64), secret=bytes(length))


def test_a_seed_and_a_secret_exclude_each_other() -> None:
    with pytest.raises(InvalidArgument, match="a seed or a secret, not both"):
        _core.xxh3_128(b"data", 1, bytes(136))
