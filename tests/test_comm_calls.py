"""Several calls under way: their order, their tags, and calls that cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from comm_cases import LINKS, Case, begin, check, every_link, expected, run
from comm_ranks import Start
from thinwire._comm import Communicator
from thinwire.errors import InvalidArgument


@every_link
def test_several_under_way_in_any_order(ranks: Start, link: str) -> None:
    """Ranks submit tagged calls in orders of their own, and wait in others."""
    cases = [
        Case(n=int(n), codec=codec, algorithm=algorithm, seed=i, step=i)
        for i, (n, codec, algorithm) in enumerate(
            zip(
                (10, 300_000, 1, 5000, 70_000, 0, 2048, 100_000),
                ("raw", "int8", "raw", "topk", "raw", "int4", "fp16", "raw"),
                ("doubling", "ring", "auto", "direct", "direct", "auto", "bidirectional", "ring"),
                strict=True,
            )
        )
    ]
    wanted = [expected(case, 3) for case in cases]

    def shuffled(comm: Communicator, seed: int) -> None:
        random = np.random.default_rng([seed, comm.rank])
        started = {int(i): begin(comm, cases[i], tagged=True) for i in random.permutation(len(cases))}
        for i in random.permutation(len(cases)):
            assert started[int(i)].wait().same(wanted[i][comm.rank]), cases[i]

    for seed in range(3):
        ranks(3, **LINKS[link])(shuffled, seed)


def test_calls_in_order_may_overlap(ranks: Start) -> None:
    def many(comm: Communicator) -> None:
        works = [comm.all_reduce(np.full(100 * i, float(i), np.float32), algorithm="ring") for i in range(40)]
        for i, work in reversed(list(enumerate(works))):
            assert (work.wait() == 4 * i).all()

    ranks(4)(many)


def test_tags_may_be_anything_hashable_and_be_used_again(ranks: Start) -> None:
    def tagged(comm: Communicator) -> None:
        for _ in range(3):
            tags: list[Any] = ["layer.0", ("bias", 3), 7, 2**63, -5, frozenset([1])]
            if comm.rank:
                tags.reverse()
            works = {tag: comm.all_reduce(np.ones(10, np.float32), tag=tag) for tag in tags}
            assert all((work.wait() == 3).all() for work in works.values())

    ranks(3)(tagged)


def test_a_tag_that_is_under_way_is_refused(ranks: Start) -> None:
    wait = threading.Barrier(2)

    def twice(comm: Communicator) -> None:
        if comm.rank == 0:
            work = comm.all_reduce(np.ones(10, np.float32), tag="once")
            with pytest.raises(InvalidArgument, match="under way"):
                comm.all_reduce(np.ones(10, np.float32), tag="once")
        wait.wait()
        if comm.rank == 1:
            work = comm.all_reduce(np.ones(10, np.float32), tag="once")
        work.wait()

    ranks(2)(twice)


def test_barrier_waits_for_all(ranks: Start) -> None:
    came = threading.Semaphore(0)

    def meet(comm: Communicator) -> int:
        if comm.rank == 2:
            came.acquire()
            came.acquire()
        work = comm.barrier()
        if comm.rank != 2:
            assert not work.done()
            came.release()
        work.wait()
        return 1

    assert ranks(3)(meet) == [1, 1, 1]


def test_every_rank_can_run_other_kernels(ranks: Start) -> None:
    """Results do not depend on the CPU."""
    from thinwire import _core

    case = Case(n=70_001, codec="int4", algorithm="ring", residual="float32")
    wanted = expected(case, 3)
    for target in _core.targets():
        with tw.force_target(target):
            found = ranks(3)(run, case)
        assert all(f.same(w) for f, w in zip(found, wanted, strict=True)), target


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, x: c.all_reduce(x, op="min"), "op"),
        (lambda c, x: c.all_reduce(x, codec="int3"), "int3"),
        (lambda c, x: c.all_reduce(x, algorithm="star"), "star"),
        (lambda c, x: c.all_reduce(x, op="max", codec="int8"), "max"),
        (lambda c, x: c.all_reduce(x, op="max", residual=np.zeros_like(x)), "max"),
        (lambda c, x: c.all_reduce(x, op="max", weight=0.5), "max"),
        (lambda c, x: c.all_reduce(x, codec="int8", algorithm="doubling"), "doubling"),
        (lambda c, x: c.reduce_scatter(x, algorithm="doubling"), "doubling"),
        (lambda c, x: c.all_gather(x, algorithm="doubling"), "doubling"),
        (lambda c, x: c.broadcast(x, algorithm="doubling"), "doubling"),
        (lambda c, x: c.all_reduce(np.zeros(10**6, np.float32), algorithm="doubling"), "doubling"),
        (lambda c, x: c.all_reduce(x.astype(np.float64)), "float64"),
        (lambda c, x: c.all_gather(x.astype(np.float64), codec="int8"), "float64"),
        (lambda c, x: c.all_reduce(x, out=np.empty(3, np.float32)), "out has 3"),
        (lambda c, x: c.all_reduce(x, out=np.empty(10, np.float16)), "float16"),
        (lambda c, x: c.all_reduce(x, residual=np.zeros(3, np.float32)), "residual 3"),
        (lambda c, x: c.all_reduce(x, residual=np.zeros(10)), "residual"),
        (lambda c, x: c.all_reduce(x, weight=float("nan")), "weight"),
        (lambda c, x: c.all_reduce(x, weight=-1.0), "weight"),
        (lambda c, x: c.all_reduce(x[::2]), "contiguous"),
        (lambda c, x: c.all_reduce([1.0, 2.0]), "list"),
        (lambda c, x: c.broadcast(x, root=2), "root"),
        (lambda c, x: c.broadcast(x, root=-1), "root"),
        (lambda c, x: c.broadcast(np.broadcast_to(x, (10,))), "read-only"),
        (lambda c, x: c.all_gather([1.0, 2.0]), "list"),
    ],
)
def test_bad_arguments(ranks: Start, call: Callable[..., Any], message: str) -> None:
    """They are refused before anything is sent, and the communicator is as good as before."""
    comm = ranks(2).comms[0]
    with pytest.raises(InvalidArgument, match=message):
        call(comm, np.zeros(10, np.float32))
    check(ranks(2), Case(n=10))
