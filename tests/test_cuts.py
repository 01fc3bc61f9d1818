"""Chunks: every target against the reference, fastcdc2020 against pyfastcdc, any threads, any pieces."""

from __future__ import annotations

import array
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyfastcdc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thinwire as tw
from thinwire.reference import cuts as reference
from vectors import cut_cases

CASES = json.loads((Path(cut_cases.__file__).parent / "cuts.json").read_text())["cases"]
PROFILES = [tw.Profile(*sizes) for sizes in cut_cases.SIZES]
MIB = 1 << 20

profiles = st.sampled_from(PROFILES)
kinds = st.sampled_from(sorted(cut_cases.KINDS))


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def expected(data: bytes, p: tw.Profile) -> list[int]:
    return reference.ends(data, p.name, p.min, p.average, p.max)


def in_pieces(data: bytes, profile: tw.Profile | str, sizes: Sequence[int]) -> list[int]:
    """The ends of a stream that comes in pieces of the sizes, over and over."""
    chunker = tw.Chunker(profile)
    at, found = 0, []
    for size in itertools.cycle(sizes):
        found += chunker.update(data[at : at + size]).tolist()
        at += size
        if at >= len(data):
            return found + chunker.finish().tolist()
    raise AssertionError


@st.composite
def inputs(draw: st.DrawFn, profile: tw.Profile) -> bytes:
    """Data of any kind, with parts of others in it, of sizes around those of the profile's chunks."""
    edge = draw(st.sampled_from([0, 1, profile.min, profile.average, profile.max, 5 * profile.average]))
    size = max(0, edge + draw(st.integers(-3, 3)))
    data = bytearray(cut_cases.data(draw(kinds), size, draw(st.integers(0, 2**32 - 1))))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, size)), draw(st.integers(0, 200))
        data[at : at + length] = cut_cases.data(draw(kinds), length, draw(st.integers(0, 99)))
    return bytes(data)


@pytest.mark.usefixtures("target")
def test_test_vectors() -> None:
    for case in CASES:
        data = cut_cases.data(case["kind"], case["n"], case["seed"])
        profile = tw.Profile(case["profile"], case["min"], case["average"], case["max"])
        ends = tw.cuts(data, profile)
        assert ends.dtype == np.int64
        assert ends.tolist() == case["ends"], case
        assert in_pieces(data, profile, [1, 100, 63]) == case["ends"], case


@settings(deadline=None, max_examples=200)
@given(
    st.data(), profiles, st.lists(st.integers(1, 5000), min_size=1, max_size=5), st.sampled_from(tw.targets())
)
def test_equals_the_reference(
    drawn: st.DataObject, profile: tw.Profile, pieces: list[int], target: str
) -> None:
    data = drawn.draw(inputs(profile))
    ends = expected(data, profile)
    with tw.force_target(target):
        assert tw.cuts(data, profile, threads=1).tolist() == ends
        assert in_pieces(data, profile, pieces) == ends


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(64, 800), st.integers(0, 900), st.integers(0, 2000))
def test_equals_pyfastcdc(drawn: st.DataObject, least: int, more: int, most: int) -> None:
    average = max(256, least + more)
    profile = tw.Profile("fastcdc2020", least, average, max(1024, average + most))
    data = drawn.draw(inputs(profile))
    theirs = pyfastcdc.FastCDC(average, min_size=least, max_size=profile.max)
    assert tw.cuts(data, profile).tolist() == [c.offset + c.length for c in theirs.cut_buf(data)]


@pytest.mark.parametrize("average", [256, 10_000, 23_170, 23_171, 65_536, 4 * MIB])
def test_equals_pyfastcdc_by_default(average: int) -> None:
    data = random_bytes(16 * MIB)
    theirs = [c.offset + c.length for c in pyfastcdc.FastCDC(average).cut_buf(data)]
    assert tw.cuts(data, f"fastcdc2020:average={average}").tolist() == theirs


@pytest.mark.usefixtures("target")
def test_threads_and_large_pieces_change_nothing() -> None:
    data = random_bytes(5 * MIB + 77)
    ends = expected(data, tw.Profile("native", average=4096))
    for threads in (1, 2, 7, None):
        assert tw.cuts(data, "native:average=4096", threads).tolist() == ends
    assert in_pieces(data, "native:average=4096", [2 * MIB + 1, 3, MIB]) == ends


@pytest.mark.parametrize("average", [256, 5000, 65_536])
def test_random_chunks_are_as_large_as_asked(average: int) -> None:
    sizes = np.diff(tw.cuts(random_bytes(500 * average), f"native:average={average}"), prepend=0)
    assert 0.9 * average < sizes.mean() < 1.3 * average
    assert sizes[:-1].min() >= average // 4
    assert sizes.max() <= 4 * average


def test_a_cut_depends_on_the_64_bytes_before_it() -> None:
    data = random_bytes(MIB)
    profile = tw.Profile("native", average=1024)
    chosen = reference.candidates(data, 1024)
    for end in list(chosen)[:20]:
        changed = random_bytes(MIB, seed=1)[: end - 64] + data[end - 64 : end] + b"other bytes"
        assert reference.candidates(changed, 1024)[end] == chosen[end]
    before = set(tw.cuts(data, profile).tolist())
    after = set((tw.cuts(b"inserted" + data, profile) - 8).tolist())
    assert len(before & after) > 0.98 * len(before)


@pytest.mark.parametrize("name", ["native", "fastcdc2020"])
def test_monotonous_data_takes_linear_time(name: str) -> None:
    def seconds(data: bytes) -> float:
        started = time.process_time()
        tw.cuts(data, f"{name}:average=1024", threads=1)
        return time.process_time() - started

    size = 8 * MIB
    usual = seconds(random_bytes(size))
    pattern = next(
        p for p in map(random_bytes, [64] * 1000, range(1000)) if reference.candidates(2 * p, 1024)
    )
    for data in (bytes(size), b"\xff" * size, pattern * (size // 64)):
        assert seconds(data) < 20 * usual + 0.1


BUFFERS: list[Any] = [
    b"some bytes",
    bytearray(1000),
    memoryview(random_bytes(3000)),
    array.array("d", range(900)),
    np.arange(5000, dtype=np.float32).reshape(50, 100),
    np.arange(700, dtype=">i2"),
    np.empty(0, np.int64),
    b"",
]


@pytest.mark.parametrize("data", BUFFERS, ids=lambda data: type(data).__name__)
def test_takes_the_bytes_of_any_contiguous_buffer(data: Any) -> None:
    raw = bytes(memoryview(data).cast("B")) if len(data) else b""
    ends = tw.cuts(data, "native:average=256")
    assert ends.tolist() == expected(raw, tw.Profile("native", average=256))


def test_takes_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(3000).to(torch.bfloat16)
    assert tw.cuts(tensor, "fixed:average=1000").tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    with pytest.raises(tw.InvalidArgument, match="data is not contiguous"):
        tw.cuts(tensor[::2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((8, 8))[:, 1], "data is not contiguous"),
        (memoryview(bytes(100))[::3], "data is not contiguous"),
        (np.array([object()]), "data holds Python objects"),
        ("text", "data is a str"),
        (None, "data is a NoneType"),
    ],
)
def test_other_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(tw.InvalidArgument, match=message):
        tw.cuts(data)


def test_defaults_and_text_of_profiles() -> None:
    assert tw.Profile() == tw.Profile.parse("native") == tw.Profile("native", 16384, 65536, 262144)
    assert tw.Profile.parse("fixed:average=4096") == tw.Profile("fixed", 4096, 4096, 4096)
    for profile in PROFILES:
        assert tw.Profile.parse(str(profile)) == profile
    assert str(tw.Chunker("native:max=70000").profile) == "native:min=16384,average=65536,max=70000"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cdc", "no profile 'cdc'; there are native, fastcdc2020, fixed, aligned"),
        ("native:", "'native:' is not a profile; write name:parameter=value"),
        ("native:average", "write name:parameter=value"),
        ("native:block=4", "profile native has no parameter 'block'"),
        ("native:average=many", "average is 'many'; it must be an integer"),
        ("native:average=0", "average is 0"),
        ("native:average=-1", "average is -1"),
        ("native:average=255", "average is 255; profile native takes 256 to 1073741824 bytes"),
        (f"native:average={2**64}", "average is 18446744073709551616"),
        ("native:min=63", "min is 63"),
        ("native:min=65537", "min is 65537, the average 65536 bytes; it must not be larger"),
        ("native:max=65535", "max is 65535, the average 65536 bytes; it must not be smaller"),
        ("fastcdc2020:average=4194305", "average is 4194305"),
        ("fixed:min=1000", "min is 1000, the average 65536 bytes; blocks of one size have no other"),
        (5, "named by a string, not by a int"),
    ],
)
def test_what_a_profile_cannot_be_is_named(text: Any, message: str) -> None:
    with pytest.raises(tw.InvalidArgument) as caught:
        tw.cuts(b"data", text)
    assert message in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1, 2**20, 1.5, "two"])
def test_threads_are_counted_from_one(threads: Any) -> None:
    with pytest.raises(tw.InvalidArgument, match="threads is "):
        tw.cuts(b"data", threads=threads)


def test_a_chunker_serves_one_stream() -> None:
    chunker = tw.Chunker("fixed:average=1000")
    assert chunker.update(bytes(2500)).tolist() == [1000, 2000]
    assert chunker.update(bytes(500)).tolist() == [3000]
    assert chunker.finish().tolist() == []
    for again in (chunker.finish, lambda: chunker.update(b"more")):
        with pytest.raises(tw.InvalidArgument, match="has finished its stream"):
            again()


def test_streams_may_be_longer_than_4_gib() -> None:
    chunker = tw.Chunker("aligned:average=1073741824")
    unread = np.zeros(1 << 30, np.uint8)  # blocks of one size are not looked at, so this takes no memory
    ends = np.concatenate([chunker.update(unread) for _ in range(6)])
    assert ends.tolist() == [n << 30 for n in range(1, 7)]


@pytest.mark.torture
@pytest.mark.parametrize("name", ["native", "fastcdc2020"])
def test_cuts_beyond_4_gib_are_those_before(name: str) -> None:
    piece = random_bytes(64 * MIB)
    chunker = tw.Chunker(name)
    ends = np.concatenate([*(chunker.update(piece) for _ in range(70)), chunker.finish()])
    assert ends[-1] == 70 * 64 * MIB
    second, last = (set((ends - n * 64 * MIB)[ends > n * 64 * MIB].tolist()) for n in (1, 68))
    assert len(last & second) > 1000
    assert {end for end in second if end < 64 * MIB} == {end for end in last if end < 64 * MIB}
