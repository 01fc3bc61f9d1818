"""Cutting and hashing at once gives what both give one after the other."""

from __future__ import annotations

import numpy as np
import pytest

import thinwire as tw
from thinwire import InvalidArgument, _core

KEY = bytes(range(32))
PART = 16 << 20  # bytes that one thread cuts before it hashes


def _one_after_the_other(data: bytes, profile: str, key: bytes | None) -> tuple[list[int], bytes]:
    ends = tw.cuts(data, profile).tolist()
    starts = [0, *ends][: len(ends)]
    digests = [_core.blake3(data[a:b], key=key) for a, b in zip(starts, ends, strict=True)]
    return ends, b"".join(digests)


@pytest.mark.parametrize("threads", [1, 3, None])
@pytest.mark.parametrize("profile", ["native:average=4096", "fastcdc2020", "fixed:average=100000", "aligned"])
def test_ends_and_digests(target, profile: str, threads: int | None) -> None:
    data = np.random.default_rng(1).bytes(PART + 12345)
    ends, digests = tw.fingerprint(data, profile, threads)
    assert (ends.dtype, digests.dtype, digests.shape) == (np.int64, np.uint8, (len(ends), 32))
    assert (ends.tolist(), digests.tobytes()) == _one_after_the_other(data, profile, None)


@pytest.mark.parametrize("size", [0, 1, 255, PART - 1, PART, PART + 1, 2 * PART])
def test_sizes_around_the_parts(size: int) -> None:
    """Zeros too: their chunks have the greatest size, and do not end where parts do."""
    for data in (np.random.default_rng(2).bytes(size), bytes(size)):
        ends, digests = tw.fingerprint(data, "native:average=3000,max=7000", 1, key=KEY)
        want = _one_after_the_other(data, "native:average=3000,max=7000", KEY)
        assert (ends.tolist(), digests.tobytes()) == want


def test_a_chunk_of_several_parts() -> None:
    data = bytes(3 * PART + 5)
    ends, digests = tw.fingerprint(data, f"native:average={4 * PART}", 1)
    assert ends.tolist() == [len(data)]
    assert digests.tobytes() == tw.blake3(data)


def test_any_buffer() -> None:
    values = np.arange(5000, dtype=np.float32)
    (ends, digests), (again, same) = tw.fingerprint(values), tw.fingerprint(values.tobytes())
    assert (ends.tolist(), digests.tobytes()) == (again.tolist(), same.tobytes())


def test_bad_arguments() -> None:
    with pytest.raises(InvalidArgument, match="a BLAKE3 key has 32 bytes, this one has 5"):
        tw.fingerprint(b"data", key=b"short")
    with pytest.raises(InvalidArgument, match="threads is 0"):
        tw.fingerprint(b"data", threads=0)
    with pytest.raises(InvalidArgument, match="no profile 'none'"):
        tw.fingerprint(b"data", "none")
