"""The reference's schedules and collectives: what they must keep, whatever the codec and the sites."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import thinwire
from thinwire.errors import InvalidArgument
from thinwire.reference import CODECS, direct, numerics, schedules
from thinwire.reference.collectives import (
    FP32,
    Wire,
    all_gather,
    all_reduce,
    all_to_all,
    broadcast,
    greater,
    reduce_scatter,
)
from vectors.formula import values

N = 3000
SITES = {"apart": None, "halves": (0, 0, 1, 1, 1), "uneven": (0, 1, 0, 2, 0), "together": (4,) * 5}
RANKS = 5

INFO = {info.name: info for info in thinwire.codecs()}

every_tree = pytest.mark.parametrize("algorithm", schedules.TREES)
every_codec = pytest.mark.parametrize("codec", CODECS)
every_layout = pytest.mark.parametrize("sites", SITES.values(), ids=SITES)


def inputs(seed: int, ranks: int = RANKS, n: int = N, exponent: int = 0) -> list[numerics.F32]:
    return [values("uniform", n, exponent, seed=seed + rank) for rank in range(ranks)]


def wide(arrays) -> np.ndarray:
    return np.sum(np.array(arrays, dtype=np.float64), axis=0)


def same(a: numerics.F32, b: numerics.F32) -> bool:
    return a.tobytes() == b.tobytes()


def slices_of(ranks: int, n: int = N, most: int = 256) -> list[schedules.Slice]:
    """Several rounds even of a small buffer."""
    return schedules.cut_slices(schedules.chunk_bounds(n, ranks, 64), most)


# --- schedules


@pytest.mark.parametrize("ranks", range(1, 10))
@every_tree
def test_both_ways_of_a_tree_join_all_ranks_to_the_owner(algorithm, ranks):
    for sites in (
        None,
        [0] * ranks,
        [rank % 2 for rank in range(ranks)],
        [rank // 3 for rank in range(ranks)],
    ):
        for index, piece in enumerate(slices_of(ranks)):
            tree = schedules.tree_of(algorithm, ranks, piece, index, sites)
            for children in (tree.up_from, tree.down_to):
                reached = [tree.owner]
                for rank in reached:
                    reached += children.get(rank, [])
                assert sorted(reached) == list(range(ranks))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 1025, 70_000])
def test_slices_cover_the_buffer_in_order_of_round_then_owner(ranks, n):
    slices = schedules.cut_slices(schedules.chunk_bounds(n, ranks), 2048)
    assert [(s.round, s.owner) for s in slices] == sorted({(s.round, s.owner) for s in slices})
    ends = sorted((s.first, s.first + s.count) for s in slices)
    assert ends[0][0] == 0
    assert ends[-1][1] == n
    assert all(one[1] == other[0] for one, other in pairwise(ends))


def test_the_chains_of_the_ring_and_its_mirror_image():
    piece = schedules.Slice(0, 1, 2, 0)
    ring = schedules.tree_of("bidirectional", 4, piece, 0)
    mirror = schedules.tree_of("bidirectional", 4, piece, 1)
    assert ring == schedules.tree_of("ring", 4, piece, 1)
    assert ring.up_from == {0: [3], 1: [0], 2: [1]}
    assert ring.down_to == {2: [3], 3: [0], 0: [1]}
    assert mirror.up_from == {0: [1], 3: [0], 2: [3]}
    assert mirror.down_to == {2: [1], 1: [0], 0: [3]}


def test_sites_send_one_sum_each_and_the_owner_adds_its_own_members_first():
    tree = schedules.tree_of("hierarchical", 7, schedules.Slice(0, 1, 2, 0), 2, (0, 1, 0, 1, 2, 0, 1))
    assert tree.up_from == {2: [0, 5, 3, 4], 3: [1, 6], 4: []}
    assert tree.down_to == {2: [3, 4, 0, 5], 3: [1, 6], 4: []}
    assert tree.exact == {0, 5, 1, 6}


@pytest.mark.parametrize("ranks", range(1, 34))
def test_doubling_gives_all_ranks_everything_once(ranks):
    held = [[rank] for rank in range(ranks)]
    for stage in schedules.doubling_stages(ranks):
        for lower, higher in stage:
            held[lower] = held[higher] = held[lower] + held[higher]
    assert sorted(held[0]) == list(range(ranks))
    assert len(schedules.doubling_stages(ranks)) == math.ceil(math.log2(ranks))


def test_auto_takes_what_fits_the_size_and_the_sites():
    choose = schedules.choose_algorithm
    assert choose(4, 16384, False) == "doubling"
    assert choose(4, 16384, True) == "direct"
    assert choose(4, 16385, False) == "direct"
    assert choose(3, 1, False) == "direct"
    assert choose(17, 1, False) == "doubling"
    assert choose(33, 2**20, True) == "ring"
    assert choose(4, 2**20, True, (0, 0, 0, 0)) == "direct"
    assert choose(4, 2**20, True, (0, 0, 1, 2)) == "hierarchical"
    assert choose(4, 1025, False, (0, 0, 1, 1)) == "hierarchical"
    assert choose(4, 1024, False, (0, 0, 1, 1)) == "doubling"
    assert choose(65, 2**20, True, (0,) * 33 + (1,) * 32) == "ring"


# --- all_reduce


@every_layout
@every_codec
@every_tree
def test_results_and_residuals_hold_everything(algorithm, codec, sites):
    x, residuals, weights = inputs(1), inputs(20, exponent=-3), [0.1, 0.2, 0.3, 0.15, 0.25]
    wire = Wire(codec, step=3)
    done = all_reduce(
        x, wire, algorithm, residuals=residuals, weights=weights, sites=sites, slices=slices_of(RANKS)
    )
    wanted = wide([np.float32(w) * a for w, a in zip(weights, x, strict=True)]) + wide(residuals)
    assert np.allclose(done.values + wide(done.residuals), wanted, rtol=0, atol=3e-6)


def size(codec: str, v: np.ndarray) -> float:
    """What the codec's error bound is a part of: the greatest magnitude, or the norm."""
    return float(np.linalg.norm(v) if INFO[codec].error_norm == "l2" else np.abs(v).max())


def bound(codec: str, x: list[numerics.F32]) -> float:
    """The size of what one encoding a rank can lose: of sums no greater than all magnitudes together."""
    share = INFO[codec].error_bound
    return RANKS * share * (1 + share) ** RANKS * size(codec, wide(np.abs(x))) + 3e-6


@every_layout
@every_codec
@every_tree
@pytest.mark.parametrize("op", ["sum", "mean"])
def test_results_are_near_the_plain_sum(algorithm, codec, sites, op):
    x = inputs(2)
    done = all_reduce(x, Wire(codec), algorithm, op, sites=sites, slices=slices_of(RANKS))
    scale = RANKS if op == "mean" else 1
    assert size(codec, done.values - wide(x) / scale) <= bound(codec, x) / scale


@every_codec
@every_tree
def test_over_many_steps_nothing_drifts_away(algorithm, codec):
    residuals = [np.zeros(N, np.float32)] * RANKS
    delivered, wanted = np.zeros(N), np.zeros(N)
    for step in range(10):
        x = inputs(100 + 10 * step)
        done = all_reduce(
            x, Wire(codec, step=step), algorithm, "mean", residuals=residuals, sites=SITES["halves"]
        )
        residuals = done.residuals
        delivered, wanted = delivered + done.values, wanted + wide(x) / RANKS
    assert np.allclose(delivered + wide(residuals), wanted, rtol=0, atol=1e-5)


@every_codec
def test_direct_is_the_direct_all_reduce_of_frames(codec):
    x, residuals, cut = inputs(3), inputs(30, exponent=-4), slices_of(RANKS)
    in_place = sorted(cut, key=lambda s: s.first)
    parts = [direct.Part(s.owner, (direct.Segment(s.count, codec),)) for s in in_place]
    framed = direct.all_reduce(x, residuals, parts)
    done = all_reduce(x, Wire(codec), "direct", "mean", residuals=residuals, slices=cut)
    assert same(done.values, framed.values)
    assert all(same(a, b) for a, b in zip(done.residuals, framed.residuals, strict=True))


def test_the_orders_of_addition():
    a, b, c, d = x = inputs(4, ranks=4, n=64)
    whole = [schedules.Slice(0, 64, 1, 0)]

    def summed(algorithm, **options):
        return all_reduce(x, FP32, algorithm, slices=whole, **options).values

    assert same(summed("direct"), ((b + a) + c) + d)
    assert same(summed("ring"), b + (a + (d + c)))
    assert same(summed("hierarchical", sites=(0, 0, 1, 1)), (b + a) + (c + d))
    assert same(summed("doubling"), (a + b) + (c + d))
    assert same(all_reduce(x[:3], FP32, "doubling").values, (a + c) + b)


@every_codec
def test_one_rank_a_site_is_direct_and_one_site_is_exact_up_to_the_owner(codec):
    x, cut = inputs(5), slices_of(RANKS)
    apart = all_reduce(x, Wire(codec), "hierarchical", slices=cut)
    assert same(apart.values, all_reduce(x, Wire(codec), "direct", slices=cut).values)
    together = all_reduce(x, Wire(codec), "hierarchical", sites=SITES["together"], slices=cut)
    for rank, residual in enumerate(together.residuals):
        for piece in cut:
            assert piece.owner == rank or not residual[piece.range].any()


@every_codec
@every_tree
def test_a_rank_alone_encodes_once(algorithm, codec):
    (x,) = inputs(6, ranks=1)
    done = all_reduce([x], Wire(codec), algorithm)
    payload, residual = CODECS[codec].encode(x)
    assert same(done.values, CODECS[codec].decode(payload, N))
    assert same(done.residuals[0], residual)


@pytest.mark.parametrize("n", [0, 1, 5])
@every_codec
@every_tree
def test_few_values_are_summed_and_so_are_none(algorithm, codec, n):
    x = inputs(7, n=n)
    done = all_reduce(x, Wire(codec), algorithm, sites=SITES["halves"])
    assert np.allclose(done.values + wide(done.residuals), wide(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@every_tree
def test_half_precision_travels_as_it_is_and_partial_sums_are_rounded_to_it(algorithm, dtype):
    wire = Wire(dtype=dtype)
    x = [wire.stored(a) for a in inputs(8)]
    plain = all_reduce(x, wire, algorithm, sites=SITES["halves"])
    coded = all_reduce(x, Wire(dtype), algorithm, sites=(0, 1, 2, 3, 4))
    assert same(plain.values, wire.stored(plain.values))
    if algorithm != "hierarchical":
        assert same(plain.values, coded.values)
    assert np.allclose(plain.values + wide(plain.residuals), wide(x), rtol=0, atol=3e-6)


def test_doubling_rounds_half_precision_once():
    wire = Wire(dtype="fp16")
    x = [wire.stored(a) for a in inputs(16)]
    done = all_reduce(x, wire, "doubling")
    assert same(done.values, wire.stored(all_reduce(x, FP32, "doubling").values))


def test_keys_are_those_of_slice_and_rank():
    x = [values("uniform", N, 0)] * RANKS
    stochastic = {"rounding": "stochastic"}
    asked = []

    def key_of(index: int, rank: int) -> int:
        asked.append((index, rank))
        return 1000 * index + rank

    cut = slices_of(RANKS)
    one = all_reduce(x, Wire("int4", stochastic, key_of=key_of), "ring", slices=cut)
    assert sorted(asked) == [(index, rank) for index in range(len(cut)) for rank in range(RANKS)]
    assert not same(one.values, all_reduce(x, Wire("int4", stochastic), "ring", slices=cut).values)


@pytest.mark.parametrize("codec", [*CODECS, "doubling"])
@every_tree
def test_a_nan_reaches_all_and_no_residual(algorithm, codec):
    x = inputs(9)
    x[3][700] = np.nan
    wire = Wire("raw" if codec == "doubling" else codec)
    done = all_reduce(x, wire, "doubling" if codec == "doubling" else algorithm, sites=SITES["uneven"])
    assert np.isnan(done.values[700])
    assert np.isfinite(done.values[1024:]).all()
    assert all(np.isfinite(r).all() for r in done.residuals)


# --- max


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("algorithm", [*schedules.TREES, "doubling"])
def test_max_is_exact_and_nan_wins(algorithm, dtype):
    wire = Wire(dtype=dtype)
    x = [wire.stored(a) for a in inputs(10)]
    x[1][5] = np.nan
    done = all_reduce(x, wire, algorithm, "max", sites=SITES["uneven"])
    assert np.isnan(done.values[5])
    assert np.array_equal(done.values, np.max(x, axis=0), equal_nan=True)
    assert not any(r.any() for r in done.residuals)


def test_the_greater_of_two_does_not_depend_on_their_order():
    odd = np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, 1.0, -1.0], dtype=np.float32)
    a, b = (v.ravel().astype(np.float32) for v in np.meshgrid(odd, odd))
    assert same(greater(a, b), greater(b, a))
    assert not np.signbit(greater(np.float32([-0.0]), np.float32([0.0])))[0]


def test_what_makes_no_sense_is_refused():
    x = inputs(11)
    with pytest.raises(InvalidArgument, match="max takes codec raw only"):
        all_reduce(x, Wire("int8"), op="max")
    with pytest.raises(InvalidArgument, match="neither weights nor residuals"):
        all_reduce(x, op="max", weights=[1.0] * RANKS)
    with pytest.raises(InvalidArgument, match="doubling takes codec raw only"):
        all_reduce(x, Wire("int8"), "doubling")
    with pytest.raises(InvalidArgument, match="op must be"):
        all_reduce(x, op="product")
    with pytest.raises(InvalidArgument, match="algorithm must be one of direct, ring"):
        all_reduce(x, FP32, "auto")


# --- the other collectives


@every_codec
@every_tree
def test_reduce_scatter_leaves_the_owners_sums_unencoded(algorithm, codec):
    x, residuals = inputs(12), inputs(40, exponent=-3)
    done = reduce_scatter(x, Wire(codec), algorithm, residuals=residuals, sites=SITES["uneven"])
    wanted = wide(x) + wide(residuals)
    assert np.allclose(done.values + wide(done.residuals), wanted, rtol=0, atol=3e-6)
    for rank, (start, end) in enumerate(pairwise(schedules.even_bounds(N, RANKS))):
        if algorithm == "direct":
            assert not done.residuals[rank][start:end].any()


@every_codec
def test_movements_give_all_ranks_the_decoded_values(codec):
    wire = Wire(codec)

    def decoded(x):
        return CODECS[codec].decode(CODECS[codec].encode(x)[0], x.size)

    (x,) = inputs(13, ranks=1)
    assert same(broadcast(x, wire, root=2), decoded(x))
    assert same(all_gather(np.split(x, 3), wire), np.concatenate([decoded(part) for part in np.split(x, 3)]))
    x = inputs(14, ranks=3)
    arrived = all_to_all(x, wire)
    for rank in range(3):
        sent = [decoded(np.split(source, 3)[rank]) for source in x]
        assert same(arrived[rank], np.concatenate(sent))


def test_gathered_arrays_have_the_sizes_of_even_chunks():
    x = inputs(15, ranks=1)[0]
    assert same(all_gather([x[:1000], x[1000:1999]]), x[:1999])
    with pytest.raises(InvalidArgument, match="even chunks"):
        all_gather([x[:10], x[:12]])
