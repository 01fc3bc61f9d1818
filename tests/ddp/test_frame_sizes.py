"""No frame of the hook is larger than the links take, however a bucket is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddp.ranks import Ranks
from ddp.test_plan import PARAMETERS
from ddp.training import Weights, assert_replicas, attached, noise
from thinwire import InvalidArgument, _core
from thinwire._core import CodecSpec, Layout
from thinwire.ddp.plan import Coding, Share, cut_bucket, native_limits

MATRIX = Coding(CodecSpec("sign1"))
VECTOR = Coding(CodecSpec("bf16"))


def fits(share: Share) -> bool:
    """Whether a frame takes the share, coded and as fp32."""
    coded = share.layout(1, {}).frame_bytes - _core.HEADER_BYTES if share.count else 0
    return max(coded, 4 * share.count) <= _core.MAX_PAYLOAD_BYTES


@settings(max_examples=150, deadline=None)
@given(PARAMETERS, st.integers(1, 9))
def test_every_share_fits_in_a_frame(parameters: list[tuple[int, CodecSpec]], world_size: int) -> None:
    sizes, codings = [size for size, _ in parameters], [Coding(codec) for _, codec in parameters]
    position = 0
    for piece in cut_bucket(sizes, codings, world_size, native_limits(world_size)):
        owners = [share.owner for share in piece.shares]
        assert owners == sorted(owners)
        assert set(owners) == set(range(world_size))
        for share in piece.shares:
            assert share.start == position
            position += share.count
            assert fits(share)
            assert all(segment.offset % segment.coding.align == 0 for segment in share.segments)
    assert position == sum(sizes)


def test_thousands_of_small_parameters_fit() -> None:
    sizes, codings = [3] * 20_000 + [600_000], [VECTOR] * 20_000 + [MATRIX]
    shares = [share for piece in cut_bucket(sizes, codings, 2, native_limits(2)) for share in piece.shares]
    assert sum(share.count for share in shares) == sum(sizes)
    assert all(map(fits, shares))


def test_what_costs_little_lies_in_several_frames() -> None:
    """Beside a vector in bf16 one owner has most of the matrix: by bytes that is as much."""
    (piece,) = cut_bucket([20_000, 600 * 500], [VECTOR, MATRIX], 3, native_limits(3))
    owners = [share.owner for share in piece.shares]
    assert len(owners) > len(set(owners)) == 3


def _train(rank: int, codec: str, shapes: list[tuple[int, ...]], sites: str) -> None:
    ddp, state = attached(
        codec, Weights(*shapes), {"bucket_cap_mb": 25}, warmup=0, deadline=20.0, network={"site": sites[rank]}
    )
    for step in range(3):  # in the first one DDP has other buckets
        gradients = [noise(rank, 10 * step + i, *shape) for i, shape in enumerate(shapes)]
        ddp.zero_grad()
        ddp(gradients).backward()
        assert_replicas(ddp)
    if codec == "raw":
        others = [noise(1 - rank, 10 * step + i, *shape) for i, shape in enumerate(shapes)]
        for weight, mine, other in zip(ddp.module.weights, gradients, others, strict=True):
            torch.testing.assert_close(weight.grad, (mine + other) / 2)
    state.close()


def test_a_bucket_that_just_misses_a_multiple_of_a_frame(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_train, "raw", [(506554,), (541790,)], "ab")


@pytest.mark.parametrize("codec", ["sign1", "topk", "int4"])
def test_exact_sums_inside_a_site_fit(ranks: Callable[[int], Ranks], codec: str) -> None:
    ranks(3)(_train, codec, [(600, 640), (8000,)], "aab")


def _too_large(rank: int) -> None:
    _, state = attached("int8")
    count = _core.MAX_PAYLOAD_BYTES // 4 + 1
    layout = Layout([(count, CodecSpec("raw"))], 1)
    with pytest.raises(InvalidArgument, match=r"would take a frame of 524304 bytes; at most 524288 travel"):
        state._wire.communicator.native.make_plan(
            [(0, count, 0, 0, layout, [0], None, None, 0)], 1, 0, 0, "direct"
        )
    state.close()


def test_a_plan_whose_frames_are_too_large_is_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_too_large)
