"""How buckets are cut: every value once, balanced, bounded, and the same on every rank."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire._core import CodecSpec
from thinwire.ddp import plan
from thinwire.ddp.plan import BasisShape, Coding, Piece, cut_bucket, make_plan

SPECS = [
    CodecSpec("raw"),
    CodecSpec("bf16"),
    CodecSpec("int8"),
    CodecSpec("int4"),
    CodecSpec("int8", block=4096),
    CodecSpec("int2"),
    CodecSpec("ternary"),
    CodecSpec("sign1"),
    CodecSpec("topk"),
    CodecSpec("topk", density=0.001),
]
PARAMETERS = st.lists(
    st.tuples(st.one_of(st.integers(0, 3000), st.integers(0, 4_000_000)), st.sampled_from(SPECS)),
    min_size=0,
    max_size=12,
)


def cut(parameters: list[tuple[int, CodecSpec]], world_size: int) -> tuple[Piece, ...]:
    """Cut a bucket given as (size, codec) pairs."""
    return cut_bucket(
        [size for size, _ in parameters], [Coding(codec) for _, codec in parameters], world_size
    )


@settings(max_examples=150, deadline=None)
@given(PARAMETERS, st.integers(1, 9))
def test_every_value_lies_in_one_segment_in_order(
    parameters: list[tuple[int, CodecSpec]], world_size: int
) -> None:
    position, offsets = 0, [0] * len(parameters)
    for piece in cut(parameters, world_size):
        assert [share.owner for share in piece.shares] == list(range(world_size))
        for share in piece.shares:
            assert share.start == position
            for segment in share.segments:
                assert segment.count > 0
                assert segment.offset == offsets[segment.parameter]
                assert segment.coding.codec == parameters[segment.parameter][1]
                offsets[segment.parameter] += segment.count
                position += segment.count
    assert offsets == [size for size, _ in parameters]


@settings(max_examples=100, deadline=None)
@given(PARAMETERS, st.integers(1, 9))
def test_cuts_inside_a_parameter_are_aligned_to_its_blocks(
    parameters: list[tuple[int, CodecSpec]], world_size: int
) -> None:
    for piece in cut(parameters, world_size):
        for share in piece.shares:
            for segment in share.segments:
                block = segment.coding.codec.params.get("block", 1)
                assert segment.offset % plan.ALIGN == 0
                assert segment.offset % block == 0


@settings(max_examples=100, deadline=None)
@given(PARAMETERS, st.integers(1, 9))
def test_pieces_are_bounded_and_shares_balanced(
    parameters: list[tuple[int, CodecSpec]], world_size: int
) -> None:
    slack = 4096  # a cut may lie this many values beside the best place: 4 bytes each at most
    for piece in cut(parameters, world_size):
        costs = [sum(s.coding.codec.payload_bytes(s.count) for s in share.segments) for share in piece.shares]
        padding = 64 * sum(len(share.segments) for share in piece.shares)
        assert sum(share.count for share in piece.shares) <= plan.C10D_LIMITS.piece_values + 2 * slack
        assert sum(costs) <= plan.C10D_LIMITS.piece_bytes + 2 * 4 * slack + padding
        assert max(costs) <= sum(costs) / world_size + 2 * 4 * slack + padding


def test_a_large_matrix_becomes_pieces_of_about_a_mebibyte() -> None:
    pieces = cut([(10_000_000, CodecSpec("int8"))], 2)
    assert len(pieces) == 10
    counts = [sum(share.count for share in piece.shares) for piece in pieces]
    assert max(counts) - min(counts) <= plan.ALIGN


def test_a_bucket_of_one_value_has_one_owner() -> None:
    (piece,) = cut([(1, CodecSpec("bf16"))], 4)
    assert sorted(share.count for share in piece.shares) == [0, 0, 0, 1]


def test_a_matrix_with_a_basis_is_cut_between_rows() -> None:
    columns = 300
    pieces = cut_bucket([4000 * columns], [Coding(CodecSpec("sign1"), BasisShape(8, columns))], 3)
    segments = [segment for piece in pieces for share in piece.shares for segment in share.segments]
    assert len(segments) > 3
    assert all(segment.offset % columns == segment.count % columns == 0 for segment in segments)
    assert sum(segment.count for segment in segments) == 4000 * columns


def test_an_empty_bucket_has_no_pieces() -> None:
    assert cut([], 2) == ()
    assert cut([(0, CodecSpec("int8"))], 2) == ()


def test_the_digest_depends_on_everything_that_must_agree() -> None:
    bf16 = Coding(CodecSpec("bf16"))
    base = ([5000, 7], [Coding(CodecSpec("int8")), bf16], 2, {"bucket": 0})
    variants = [
        ([5001, 7], base[1], 2, base[3]),
        (base[0], [Coding(CodecSpec("int4")), bf16], 2, base[3]),
        (base[0], [Coding(CodecSpec("int8", block=128)), bf16], 2, base[3]),
        (base[0], [Coding(CodecSpec("int8"), BasisShape(8, 50)), bf16], 2, base[3]),
        (base[0], [Coding(CodecSpec("int8"), BasisShape(4, 50)), bf16], 2, base[3]),
        (base[0], base[1], 3, base[3]),
        (base[0], base[1], 2, {"bucket": 1}),
    ]
    digests = [make_plan(*arguments).digest for arguments in [base, *variants]]
    assert len(set(digests)) == len(digests)
    assert make_plan(*base).digest == digests[0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_slots_hold_their_frames_and_start_aligned(world_size: int) -> None:
    for piece in cut([(300_000, CodecSpec("int4")), (77, CodecSpec("bf16"))], world_size):
        for share in piece.shares:
            frame = share.layout(1, {}).frame_bytes if share.count else 0
            slot = plan.slot_bytes(frame)
            assert slot >= frame
            assert slot % plan.SLOT_ALIGN == 0
            assert slot >= plan.MIN_SLOT
