"""Ranks that call different things: all of them hear both views, and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from comm_cases import Case, expected, run
from comm_ranks import QUICK, Threads
from thinwire._comm import Communicator
from thinwire.errors import InvalidArgument

Call = Callable[[Communicator, np.ndarray], Any]


@pytest.mark.parametrize("links", ["inproc", "tcp"])
@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (lambda c, x: c.all_reduce(x), lambda c, x: c.all_reduce(x[1:]), ("3000 float32", "2999 float32")),
        (
            lambda c, x: c.all_reduce(x),
            lambda c, x: c.all_reduce(x.astype(np.float16)),
            ("float32", "float16"),
        ),
        (
            lambda c, x: c.all_reduce(x, codec="int8"),
            lambda c, x: c.all_reduce(x, codec="int4"),
            ("int8", "int4"),
        ),
        (
            lambda c, x: c.all_reduce(x, codec="int8"),
            lambda c, x: c.all_reduce(x, codec="int8:block=64"),
            ("256", "64"),
        ),
        (lambda c, x: c.all_reduce(x, op="max"), lambda c, x: c.all_reduce(x), ("max", "sum")),
        (lambda c, x: c.all_reduce(x, op="mean"), lambda c, x: c.all_reduce(x), ("mean", "sum")),
        (
            lambda c, x: c.all_reduce(x, algorithm="ring"),
            lambda c, x: c.all_reduce(x, algorithm="direct"),
            ("ring", "direct"),
        ),
        (lambda c, x: c.all_reduce(x), lambda c, x: c.all_reduce(x, weight=0.5), ("sum", "weighted sum")),
        (lambda c, x: c.all_reduce(x), lambda c, x: c.reduce_scatter(x), ("all_reduce", "reduce_scatter")),
        (lambda c, x: c.all_gather(x), lambda c, x: c.all_to_all(x), ("all_gather", "all_to_all")),
        (lambda c, x: c.barrier(), lambda c, x: c.all_reduce(x), ("barrier", "all_reduce")),
    ],
)
def test_ranks_that_disagree(one: Call, other: Call, words: Sequence[str], links: str) -> None:
    """All of them hear both views, and the next call works."""
    for size, odd in ((2, 1), (3, 0)):

        def call(comm: Communicator, odd: int = odd) -> None:
            (other if comm.rank == odd else one)(comm, np.ones(3000, np.float32)).wait()

        with Threads(size, links=links, deadline=20.0) as threads:
            for _ in range(2):
                begin = time.monotonic()
                found = threads.outcomes(call)
                assert time.monotonic() - begin < QUICK
                for outcome in found:
                    assert isinstance(outcome, InvalidArgument), found
                    assert "ranks disagree: rank" in str(outcome)
                    for word in words:
                        assert word in str(outcome), (word, str(outcome))
                wanted = expected(Case(n=500), size)
                for good, right in zip(threads(run, Case(n=500)), wanted, strict=True):
                    assert good.same(right)


def test_calls_in_different_orders() -> None:
    def call(comm: Communicator) -> None:
        sizes = (10, 20_000) if comm.rank else (20_000, 10)
        works = [comm.all_reduce(np.ones(n, np.float32)) for n in sizes]
        for work in works:
            with pytest.raises(InvalidArgument, match="ranks disagree"):
                work.wait()

    with Threads(2, links="inproc", deadline=20.0) as threads:
        threads(call)
        threads(lambda comm: comm.barrier().wait())


@pytest.mark.parametrize("algorithm", ["direct", "ring", "doubling"])
def test_weights_that_do_not_add_up_to_one(algorithm: str) -> None:
    def call(comm: Communicator) -> None:
        comm.all_reduce(np.ones(5000, np.float32), weight=0.5, algorithm=algorithm).wait()

    with Threads(3, links="inproc") as threads:
        for _ in range(2):
            for outcome in threads.outcomes(call):
                assert isinstance(outcome, InvalidArgument)
                assert "must add up to 1, not 1.5" in str(outcome)
        threads(run, Case(n=500))
