"""Every collective of a communicator gives the bits of `thinwire.reference.collectives`, on every rank."""

from __future__ import annotations

import numpy as np
import pytest

from comm_cases import (
    CODECS,
    LINKS,
    MOVES,
    TREES,
    Case,
    check,
    every_codec,
    every_dtype,
    every_link,
    expected,
    run,
)
from comm_ranks import Start
from support import BF16, DTYPES, FP16
from thinwire._comm import Communicator


@every_dtype
@every_codec
def test_all_reduce(ranks: Start, codec: str, dtype: int) -> None:
    for size, algorithm, op, residual, weighted in (
        (2, "auto", "sum", "float32", False),
        (3, "direct", "mean", "", False),
        (3, "ring", "sum", "float32", True),
        (4, "ring", "mean", "float32", False),
        (4, "bidirectional", "sum", "", True),
        (5, "direct", "mean", "bfloat16", False),
        (5, "bidirectional", "mean", "float32", False),
        (1, "auto", "sum", "float32", False),
    ):
        check(
            ranks(size),
            Case(
                codec=codec,
                dtype=dtype,
                algorithm=algorithm,
                op=op,
                residual=residual,
                weighted=weighted,
                n=4100,
            ),
        )


@every_codec
@pytest.mark.parametrize("sites", [(0, 0, 1, 1), (0, 1, 0, 2, 0), (0, 0, 0)], ids=str)
def test_hierarchical(ranks: Start, codec: str, sites: tuple[int, ...]) -> None:
    threads = ranks(len(sites), each=[{"site": f"site {site}"} for site in sites])
    for dtype in DTYPES:
        for algorithm, residual in (("hierarchical", "float32"), ("auto", "")):
            case = Case(codec=codec, dtype=dtype, algorithm=algorithm, residual=residual, n=5200, op="mean")
            check(threads, case, list(sites))
    check(threads, Case("reduce_scatter", codec=codec, algorithm="hierarchical"), list(sites))


@every_dtype
@pytest.mark.parametrize("size", range(1, 6))
def test_doubling(ranks: Start, size: int, dtype: int) -> None:
    for op, residual, weighted in (
        ("sum", "", False),
        ("mean", "float32", False),
        ("sum", "bfloat16", True),
        ("max", "", False),
    ):
        for n in (0, 1, 1000):
            case = Case(algorithm="doubling", dtype=dtype, n=n, op=op, residual=residual, weighted=weighted)
            check(ranks(size), case)


@every_dtype
@pytest.mark.parametrize("algorithm", TREES)
def test_max(ranks: Start, algorithm: str, dtype: int) -> None:
    for size in (2, 3, 5):
        for collective in ("all_reduce", "reduce_scatter"):
            check(ranks(size), Case(collective, dtype=dtype, algorithm=algorithm, op="max"))


@every_codec
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_reduce_scatter(ranks: Start, codec: str, size: int) -> None:
    for dtype in DTYPES:
        for n, algorithm, op, residual, weighted in (
            (3001, "direct", "sum", "float32", False),
            (3002, "ring", "mean", "float32", True),
            (4, "auto", "sum", "", False),
            (0, "auto", "sum", "", False),
        ):
            case = Case(
                "reduce_scatter",
                n,
                codec,
                dtype=dtype,
                algorithm=algorithm,
                op=op,
                residual=residual,
                weighted=weighted,
            )
            check(ranks(size), case)


@every_codec
@pytest.mark.parametrize("collective", MOVES)
def test_movements(ranks: Start, collective: str, codec: str) -> None:
    algorithms = ["auto"] if collective == "all_to_all" else ["auto", "direct", "ring"]
    for size in (1, 2, 3, 5):
        for dtype in DTYPES:
            for n in (0, 1, 1031):
                for algorithm in algorithms:
                    case = Case(
                        collective, n, codec, dtype=dtype, algorithm=algorithm, root=size - 1, seed=n + size
                    )
                    check(ranks(size), case)


@pytest.mark.parametrize("collective", MOVES)
def test_values_of_no_bytes(ranks: Start, collective: str) -> None:
    def move(comm: Communicator) -> None:
        moved = getattr(comm, collective)(np.empty(4, "V0")).wait()
        assert moved.nbytes == 0

    ranks(2)(move)


@pytest.mark.parametrize("codec", ["raw", "int4", "topk"])
@pytest.mark.parametrize("n", [0, 1, 2, 1023, 1024, 1025, 2049])
def test_sizes(ranks: Start, n: int, codec: str) -> None:
    for size in range(1, 6):
        for algorithm in ("auto", *TREES):
            check(ranks(size), Case(n=n, codec=codec, algorithm=algorithm, residual="float32"))


@pytest.mark.parametrize(
    "case",
    [
        Case(n=1_200_001, algorithm="ring"),
        Case(n=1_200_001, codec="int8", algorithm="ring", residual="float32"),
        Case(n=900_007, codec="int4", algorithm="bidirectional", residual="float32", op="mean"),
        Case(n=900_007, dtype=BF16, algorithm="direct"),
        Case("reduce_scatter", n=900_007, codec="int8", algorithm="ring"),
        Case("all_gather", n=500_001, codec="int8"),
        Case("all_gather", n=500_001),
        Case("broadcast", n=700_001, root=1),
        Case("all_to_all", n=900_001, dtype=FP16, codec="int4"),
        Case("all_to_all", n=900_001),
    ],
    ids=lambda case: f"{case.collective}-{case.codec}-{case.algorithm}",
)
def test_large(ranks: Start, case: Case) -> None:
    check(ranks(3), case)


@every_link
def test_links(ranks: Start, link: str) -> None:
    for size in (2, 3):
        threads = ranks(size, **LINKS[link])
        for case in (
            Case(n=0),
            Case(n=7),
            Case(n=150_001, codec="int8", residual="float32"),
            Case(n=150_001, algorithm="ring", op="mean"),
            Case(n=150_001, dtype=BF16, algorithm="bidirectional"),
            Case(n=600_001, codec="int4", algorithm="ring"),
            Case(n=600_001),
            Case("reduce_scatter", 150_001),
            Case("all_gather", 70_001, "int8"),
            Case("broadcast", 150_001, root=1),
            Case("all_to_all", 150_001),
        ):
            check(threads, case)
        kinds = {each["kind"] for comm in threads.comms for each in comm.stats()["links"]}
        assert kinds == {"inproc" if link == "auto" else LINKS[link]["links"]}


@pytest.mark.parametrize("codec", ["int4:rounding=stochastic", "int8:block=64,rounding=stochastic"])
def test_stochastic_rounding_depends_on_the_step_alone(ranks: Start, codec: str) -> None:
    for step in (0, 5):
        for algorithm in TREES:
            case = Case(n=3100, codec=codec, step=step, algorithm=algorithm, residual="float32")
            wanted = expected(case, 3)
            for _ in range(2):
                found = ranks(3)(lambda comm, case=case: run(comm, case, tagged=True))
                assert all(f.same(w) for f, w in zip(found, wanted, strict=True)), case


@pytest.mark.parametrize(
    "codec", ["int8:block=2048", "int4:block=128", "topk:density=0.1", "topk:values=fp16"]
)
def test_codec_parameters(ranks: Start, codec: str) -> None:
    for size in (2, 3):
        check(ranks(size), Case(n=9000, codec=codec, algorithm="ring", residual="float32"))


def test_values_that_are_not_finite(ranks: Start) -> None:
    """NaN wins a maximum, and every rank finds the same bits after any codec."""
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], np.float32)

    def reduce(comm: Communicator, op: str, codec: str, algorithm: str) -> np.ndarray:
        x = np.roll(np.tile(special, 200), comm.rank)
        return comm.all_reduce(x, op=op, codec=codec, algorithm=algorithm).wait()

    for codec in CODECS:
        for op in ("sum", "max") if codec == "raw" else ("sum",):
            for algorithm in ("direct", "ring", *(["doubling"] if codec == "raw" else [])):
                results = ranks(3)(reduce, op, codec, algorithm)
                assert len({result.tobytes() for result in results}) == 1
                if codec == "raw":
                    wanted = np.max([np.roll(np.tile(special, 200), r) for r in range(3)], axis=0)
                    with np.errstate(invalid="ignore"):
                        if op == "sum":
                            wanted = np.sum([np.roll(np.tile(special, 200), r) for r in range(3)], axis=0)
                    np.testing.assert_array_equal(results[0], wanted)
