"""Random all-reduces in random orders: all equal to the reference, in memory that does not grow."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from comm_cases import Case, Outcome, begin, expected
from comm_ranks import Threads, resident_bytes
from thinwire._comm import Communicator

TOGETHER = 8
CODECS = [
    "raw",
    "raw",
    "fp16",
    "bf16",
    "fp8",
    "int8",
    "int4",
    "int4:rotate=true",
    "int2",
    "ternary",
    "sign1",
    "topk",
]


def draw(random: np.random.Generator, step: int) -> Case:
    """Return one call. Small ones are the most frequent."""
    codec = str(random.choice(CODECS))
    algorithms = ["auto", "direct", "ring", "bidirectional", "hierarchical"]
    n = int(2 ** random.uniform(0, 15)) - 1
    if codec == "raw":
        algorithms.append("doubling")
    return Case(
        n=n,
        codec=codec,
        dtype=int(random.integers(3)),
        algorithm=str(random.choice(algorithms)),
        op=str(random.choice(["sum", "mean"])),
        residual=str(random.choice(["", "float32", "bfloat16"])),
        weighted=bool(random.integers(2)),
        seed=step,
        step=step,
    )


def reduce_together(comm: Communicator, cases: list[Case]) -> list[Outcome]:
    """Submit calls in an order of this rank's own, and wait in another; return what they left behind."""
    random = np.random.default_rng([cases[0].seed, comm.rank])
    started = {int(i): begin(comm, cases[i], tagged=True) for i in random.permutation(len(cases))}
    outcomes = {int(i): started[int(i)].wait() for i in random.permutation(len(cases))}
    return [outcomes[i] for i in range(len(cases))]


@pytest.mark.parametrize(
    "count", [pytest.param(200, id="short"), pytest.param(10_000, id="long", marks=pytest.mark.torture)]
)
def test_random_all_reduces(count: int) -> None:
    random = np.random.default_rng(2)
    groups = [
        Threads(size, links=links) for size, links in ((2, "shm"), (3, "tcp"), (4, "inproc"), (5, "tcp"))
    ]
    warm: tuple[int, int] | None = None
    try:
        for first in range(0, count, TOGETHER):
            threads = groups[first // TOGETHER % len(groups)]
            cases = [draw(random, first + i) for i in range(TOGETHER)]
            wanted = [expected(case, threads.size) for case in cases]
            for rank, outcomes in enumerate(threads(reduce_together, cases)):
                for case, outcome, right in zip(cases, outcomes, wanted, strict=True):
                    assert outcome.same(right[rank]), (case, threads.size, rank)
            if first >= count // 2 and warm is None:
                warm = memory(groups)
        assert warm is not None
        buffers, resident = memory(groups)
        assert buffers <= warm[0] + (8 << 20)
        assert resident <= warm[1] + (32 << 20)
    finally:
        for threads in groups:
            threads.close()


def memory(groups: list[Threads]) -> tuple[int, int]:
    """Return the bytes of all engines' buffers, and of this process."""
    gc.collect()
    buffers = sum(comm.stats()["buffer_bytes"] for threads in groups for comm in threads.comms)
    return buffers, resident_bytes()
