"""Coding of single chunks: what comes back is what went in, never larger than it, never more than it says."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from thinwire.errors import CorruptChunk, FormatVersion
from thinwire.store import coding


def coded(data: bytes, **options: int) -> tuple[coding.Coded, bytes]:
    made = coding.encode(memoryview(data), options.pop("level", 3), options.get("element_size"))
    payload = b"".join(made.parts)
    assert len(payload) == made.size <= len(data)
    return made, payload


def decoded(number: int, payload: bytes, size: int) -> bytes:
    out = bytearray(size)
    coding.decode(number, memoryview(payload), memoryview(out))
    return bytes(out)


def normal(count: int, scale: float = 0.02) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=count) * scale).astype(np.float32)


def as_bf16(values: np.ndarray) -> bytes:
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


RANDOM = np.random.default_rng(0).bytes(1 << 16)

SAMPLES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "raw"),
    "a byte": (b"x", "raw"),
    "random": (RANDOM, "raw"),
    "zeros": (bytes(1 << 16), "zstd"),
    "text": (b"It was the best of times, it was the worst of times. " * 900, "zstd"),
    "fp32": (normal(1 << 14).tobytes(), "planes4"),
    "fp32 and a tail": (normal(1 << 14).tobytes() + b"abc", "planes4"),
    "bf16": (as_bf16(normal(1 << 15)), "planes2"),
    "bf16 and a tail": (as_bf16(normal(1 << 15)) + b"a", "planes2"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_probe_finds_what_pays(name: str) -> None:
    data, expected = SAMPLES[name]
    made, payload = coded(data)
    assert coding.NAMES[made.coding] == expected
    assert decoded(made.coding, payload, len(data)) == data


def test_planes_beat_zstd_on_floats() -> None:
    for data, most in ((as_bf16(normal(1 << 15)), 0.70), (normal(1 << 14).tobytes(), 0.86)):
        size = coded(data)[0].size
        assert size / len(data) < most
        assert size < 0.93 * len(zstandard.ZstdCompressor(level=3).compress(data))


def test_at_level_1_only_what_saves_much_is_split() -> None:
    assert coded(normal(1 << 14).tobytes(), level=1)[0].coding == coding.RAW
    assert coded(as_bf16(normal(1 << 15)), level=1)[0].coding == coding.PLANES2


def test_a_hint_keeps_other_widths_out() -> None:
    data = as_bf16(normal(1 << 15))
    assert coding.NAMES[coded(data, element_size=2)[0].coding] == "planes2"
    assert coding.NAMES[coded(data, element_size=1)[0].coding] in ("zstd", "raw")


@given(st.binary(max_size=600), st.integers(1, 400), st.sampled_from([None, 1, 2, 4]))
def test_everything_comes_back(pattern: bytes, times: int, element_size: int | None) -> None:
    data = pattern * times
    made = coding.encode(memoryview(data), 1, element_size)
    assert made.size <= len(data)
    assert decoded(made.coding, b"".join(made.parts), len(data)) == data


@pytest.mark.parametrize("name", ["zeros", "fp32", "bf16 and a tail"])
def test_damaged_payloads_are_refused_or_decode_to_the_size(name: str) -> None:
    """What was changed may decode to something else, which the chunk's id tells; it never fails otherwise."""
    data, _ = SAMPLES[name]
    made, payload = coded(data)
    rng = np.random.default_rng(3)
    for at in [*range(min(40, len(payload))), *rng.integers(0, len(payload), 60).tolist()]:
        changed = bytearray(payload)
        changed[at] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(CorruptChunk):
            decoded(made.coding, bytes(changed), len(data))
    for end in (0, 1, 7, len(payload) // 2, len(payload) - 1):
        with pytest.raises(CorruptChunk):
            decoded(made.coding, payload[:end], len(data))


def bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def unsized(size: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))


@pytest.mark.parametrize("make", [bomb, unsized])
def test_a_frame_that_does_not_say_the_right_size_is_not_decompressed(make: Callable[[int], bytes]) -> None:
    with pytest.raises(CorruptChunk, match="size"):
        decoded(coding.ZSTD, make(1 << 24), 1000)


def test_planes_longer_than_the_chunk_are_refused() -> None:
    payload = struct.pack("<2I", 900, 100) + bytes(1000)
    with pytest.raises(CorruptChunk):
        decoded(coding.PLANES2, payload, 1000)


def test_a_coding_of_a_later_release_is_named() -> None:
    with pytest.raises(FormatVersion, match="coding 9"):
        decoded(9, b"", 0)
