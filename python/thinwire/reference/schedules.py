"""Who adds what to what, and in which order: the schedules of `docs/algorithms.md`.

A buffer is cut into slices, each with an owner. For every slice a schedule is a tree over the ranks with
the owner as its root: partial sums go up, the result comes down as it is. Recursive doubling has no owner; it
is a row of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InvalidArgument

SLICE_VALUES_RAW, SLICE_VALUES_CODED = 32768, 65536
"""The most values of a slice, without a codec and with one."""
ALIGN = 1024
"""Chunks begin at multiples of this many values, or of the codec's block where that is larger."""
SMALL, SMALL_BETWEEN_SITES = 16384, 1024
"""Up to this many values `auto` takes doubling: on one level, and where ranks share sites."""
MOST_PEERS, MANY_RANKS = 32, 16
"""The most ranks on a level without a ring; beyond the second, doubling takes any number of ranks."""

Children = dict[int, list[int]]


@dataclass(frozen=True)
class Slice:
    """A part of the buffer that travels as one frame."""

    first: int
    count: int
    owner: int
    round: int

    @property
    def range(self) -> slice:
        """Where its values lie in the buffer."""
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True)
class Tree:
    """The way of one slice.

    `up_from[r]` are the ranks whose partial sums rank r adds to its own values, in this order, `down_to[r]`
    those to whom it passes the result. The sums of the `exact` ranks go up uncompressed.
    """

    owner: int
    up_from: Children
    down_to: Children
    exact: frozenset[int] = frozenset()


def chunk_bounds(count: int, ranks: int, align: int = ALIGN) -> list[int]:
    """Return the bounds of one chunk a rank: equal multiples of `align`, but for the end of the buffer."""
    chunk = -(-count // (ranks * align)) * align
    return [min(rank * chunk, count) for rank in range(ranks + 1)]


def even_bounds(count: int, ranks: int) -> list[int]:
    """Return the bounds of one chunk a rank, as even as possible, the larger ones first."""
    each, over = divmod(count, ranks)
    return [rank * each + min(rank, over) for rank in range(ranks + 1)]


def cut_slices(bounds: Sequence[int], slice_values: int) -> list[Slice]:
    """Cut chunks into slices of at most `slice_values`, in order of round, then owner. At least one slice."""
    slices = [
        Slice(first, min(slice_values, end - first), owner, number)
        for owner, (start, end) in enumerate(pairwise(bounds))
        for number, first in enumerate(range(start, end, slice_values))
    ]
    return sorted(slices, key=lambda s: (s.round, s.owner)) or [Slice(0, 0, 0, 0)]


def tree_of(algorithm: str, ranks: int, piece: Slice, index: int, sites: Sequence[int] | None = None) -> Tree:
    """Return the tree of a slice, `index` being its position in `cut_slices`; `sites` one number a rank.

    Raises InvalidArgument for a schedule that is none or has no trees.
    """
    if algorithm not in TREES:
        raise InvalidArgument(f"algorithm must be one of {', '.join(TREES)}, not {algorithm!r}")
    return TREES[algorithm](piece, index, list(range(ranks) if sites is None else sites))


def _direct(piece: Slice, index: int, sites: list[int]) -> Tree:
    others = [rank for rank in range(len(sites)) if rank != piece.owner]
    return Tree(piece.owner, {piece.owner: others}, {piece.owner: others})


def _chains(piece: Slice, ranks: int, step: int) -> Tree:
    """Return two chains: the sum ends at the owner, the result begins there."""
    way = [(piece.owner + hop * step) % ranks for hop in range(ranks)]
    up = {parent: [child] for child, parent in pairwise(way[1:] + way[:1])}
    down = {parent: [child] for parent, child in pairwise(way)}
    return Tree(piece.owner, up, down)


def _ring(piece: Slice, index: int, sites: list[int]) -> Tree:
    return _chains(piece, len(sites), 1)


def _bidirectional(piece: Slice, index: int, sites: list[int]) -> Tree:
    return _chains(piece, len(sites), -1 if index % 2 else 1)


def _representative(piece: Slice, members: list[int]) -> int:
    """Return who speaks for a site: the owner at home; elsewhere the members in turn."""
    if piece.owner in members:
        return piece.owner
    owners_before = sum(rank not in members for rank in range(piece.owner))
    return members[(owners_before + piece.round) % len(members)]


def _hierarchical(piece: Slice, index: int, sites: list[int]) -> Tree:
    up: Children = {}
    down: Children = {}
    for site in set(sites):
        members = [rank for rank, number in enumerate(sites) if number == site]
        chief = _representative(piece, members)
        up[chief] = down[chief] = [rank for rank in members if rank != chief]
    exact = frozenset(rank for members in up.values() for rank in members)
    remote = sorted(chief for chief in up if chief != piece.owner)
    members = up[piece.owner]
    return Tree(
        piece.owner, {**up, piece.owner: members + remote}, {**down, piece.owner: remote + members}, exact
    )


TREES: dict[str, Callable[[Slice, int, list[int]], Tree]] = {
    "direct": _direct,
    "ring": _ring,
    "bidirectional": _bidirectional,
    "hierarchical": _hierarchical,
}
"""The schedules that have trees, by name."""


def doubling_stages(ranks: int) -> list[list[tuple[int, int]]]:
    """Return the stages of recursive doubling: pairs (lower, higher) of ranks who add their partial sums.

    With P the greatest power of two, ranks P and up give their values to `rank - P` in the first stage, and
    get the result from there after the last.
    """
    power = 1 << (ranks.bit_length() - 1)
    fold = [[(rank - power, rank) for rank in range(power, ranks)]] if ranks > power else []
    distances = [1 << bit for bit in range(power.bit_length() - 1)]
    return fold + [[(rank, rank + d) for rank in range(power) if not rank & d] for d in distances]


def choose_algorithm(ranks: int, count: int, compressed: bool, sites: Sequence[int] | None = None) -> str:
    """Return what "auto" means."""
    numbers = list(range(ranks) if sites is None else sites)
    largest_site = max(numbers.count(number) for number in numbers)
    two_levels = largest_site > 1 and len(set(numbers)) > 1
    few_exchanges = ranks & (ranks - 1) == 0 or ranks > MANY_RANKS
    if not compressed and few_exchanges and count <= (SMALL_BETWEEN_SITES if two_levels else SMALL):
        return "doubling"
    if two_levels and max(len(set(numbers)), largest_site) <= MOST_PEERS:
        return "hierarchical"
    return "direct" if ranks <= MOST_PEERS else "ring"
