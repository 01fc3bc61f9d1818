"""Every collective of a communicator gives the bits of `thinwire.reference.collectives`, on every rank."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from comm_cases import Case, as_array, begin, expected, residual_of, run, values_of
from comm_ranks import Threads
from support import BF16, DTYPES, FP16
from thinwire._comm import Communicator
from thinwire.errors import InvalidArgument

CODECS = [info.name for info in tw.codecs()]
TREES = ["direct", "ring", "bidirectional", "hierarchical"]
MOVES = ["all_gather", "broadcast", "all_to_all"]
LINKS: dict[str, dict[str, Any]] = {
    "tcp": {"links": "tcp"},
    "tcp-3": {"links": "tcp", "sockets": 3},
    "tcp-secret": {"links": "tcp", "secret": "between us"},
    "tcp-tls": {"links": "tcp", "secret": "between us", "tls": True},
    "shm": {"links": "shm"},
    "inproc": {"links": "inproc"},
    "auto": {"links": "auto"},
}

Start = Callable[..., Threads]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Start]:
    """Start ranks, or find those that another test has started."""
    known: dict[str, Threads] = {}

    def start(size: int, **options: Any) -> Threads:
        key = repr((size, sorted(options.items())))
        if key not in known:
            known[key] = Threads(size, **({"links": "inproc"} | options))
        return known[key]

    yield start
    for each in known.values():
        each.close()


def check(threads: Threads, case: Case, sites: list[int] | None = None) -> None:
    """Make a call, and compare all that it leaves behind with the reference."""
    found = threads(run, case)
    wanted = expected(case, threads.size, sites)
    wrong = [rank for rank, (f, w) in enumerate(zip(found, wanted, strict=True)) if not f.same(w)]
    assert not wrong, f"{case} on {threads.size} ranks: ranks {wrong} are wrong; {difference(found, wanted)}"


def difference(found: list[Any], wanted: list[Any]) -> str:
    """Say where the first difference is."""
    for rank, (f, w) in enumerate(zip(found, wanted, strict=True)):
        pairs = [("result", f.out, w.out), ("residual", f.residual, w.residual)]
        for what, a, b in pairs:
            if a is None or a.tobytes() == b.tobytes():
                continue
            a, b = (np.ascontiguousarray(v).reshape(-1).view(f"u{v.itemsize}") for v in (a, b))
            if a.size != b.size:
                return f"rank {rank}: the {what} has {a.size} values, not {b.size}"
            at = np.flatnonzero(a != b)
            return f"rank {rank}: the {what} at {at[:3]} of {at.size}: {a[at[:3]]}, not {b[at[:3]]}"
    return ""


every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
every_codec = pytest.mark.parametrize("codec", CODECS)
every_link = pytest.mark.parametrize("link", LINKS)


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


# --- memory


@every_codec
def test_in_place(ranks: Start, codec: str) -> None:
    for dtype in DTYPES:
        for algorithm in ("direct", "ring"):
            case = Case(codec=codec, dtype=dtype, algorithm=algorithm, residual="float32", n=5000)

            def in_place(comm: Communicator, case: Case = case) -> Any:
                x = as_array(values_of(case, comm.rank), case.dtype)
                outcome = run(comm, case, x=x, out=x)
                assert outcome.out is x
                return outcome

            found = ranks(3)(in_place)
            assert all(f.same(w) for f, w in zip(found, expected(case, 3), strict=True)), case


def test_out_keeps_the_input_and_its_shape(ranks: Start) -> None:
    def reduce(comm: Communicator) -> None:
        x = np.full((3, 5, 100), comm.rank + 1, np.float32)
        out = np.empty((1500,), np.float32)
        assert comm.all_reduce(x, out=out, keep_input=True).wait() is out
        assert (x == comm.rank + 1).all()
        assert (out == 6).all()
        assert comm.all_reduce(x).wait().shape == x.shape
        assert comm.all_gather(x).wait().shape == (3, *x.shape)
        assert comm.reduce_scatter(x).wait().shape == (500,)

    ranks(3)(reduce)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "bool", "complex64"])
def test_movements_take_any_dtype(ranks: Start, dtype: str) -> None:
    def move(comm: Communicator) -> None:
        x = (np.arange(30) + comm.rank).astype(dtype).reshape(3, 10)
        gathered = comm.all_gather(x).wait()
        np.testing.assert_array_equal(gathered[1], (np.arange(30) + 1).astype(dtype).reshape(3, 10))
        assert gathered.dtype == x.dtype
        spread = comm.all_to_all(x).wait()
        start = comm.rank * 10
        np.testing.assert_array_equal(spread[2], (np.arange(30) + 2).astype(dtype)[start : start + 10])
        comm.broadcast(x, root=2).wait()
        np.testing.assert_array_equal(x, (np.arange(30) + 2).astype(dtype).reshape(3, 10))

    ranks(3)(move)


def test_tensors(ranks: Start) -> None:
    torch = pytest.importorskip("torch")

    def reduce(comm: Communicator) -> None:
        x = torch.full((4, 250), float(comm.rank + 1), dtype=torch.bfloat16)
        result = comm.all_reduce(x, codec="int8", residual=torch.zeros(1000)).wait()
        assert result.dtype == torch.bfloat16
        assert result.shape == x.shape
        assert (result == 6).all()
        assert comm.all_gather(x).wait().shape == (3, 4, 250)

    ranks(3)(reduce)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "raw"])
def test_nothing_is_lost_over_many_calls(ranks: Start, codec: str) -> None:
    """All that was delivered, and the residuals, are all that was put in."""
    steps, size, n = 20, 4, 3000

    def train(comm: Communicator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(comm.rank)
        residual = np.zeros(n, np.float32)
        put_in, delivered = np.zeros(n), np.zeros(n)
        for step in range(steps):
            x = random.standard_normal(n, np.float32)
            put_in += x
            algorithm = (*TREES, "auto")[step % 5]
            delivered += comm.all_reduce(x, codec=codec, residual=residual, algorithm=algorithm).wait()
        return put_in, delivered, residual

    found = ranks(size)(train)
    assert len({delivered.tobytes() for _, delivered, _ in found}) == 1
    whole = sum(put_in for put_in, _, _ in found)
    kept = sum(residual.astype(np.float64) for _, _, residual in found)
    np.testing.assert_allclose(found[0][1] + kept, whole, atol=2e-3)


# --- order


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


def test_done_and_stats(ranks: Start) -> None:
    def reduce(comm: Communicator) -> None:
        before = comm.stats()
        work = comm.all_reduce(np.ones(200_000, np.float32), codec="int8")
        work.wait()
        assert work.done()
        work.wait()
        after = comm.stats()
        assert after["operations"] == before["operations"] + 1
        sent = [link["sent_bytes"] for link in after["links"]]
        assert sum(sent) > sum(link["sent_bytes"] for link in before["links"])
        assert sum(sent) < 10 * 4 * 200_000

    ranks(2, links="tcp")(reduce)


def test_every_rank_can_run_other_kernels(ranks: Start) -> None:
    """Results do not depend on the CPU."""
    from thinwire import _core

    case = Case(n=70_001, codec="int4", algorithm="ring", residual="float32")
    wanted = expected(case, 3)
    for target in _core.targets():
        with tw.force_target(target):
            found = ranks(3)(run, case)
        assert all(f.same(w) for f, w in zip(found, wanted, strict=True)), target


def test_residuals_begin_where_they_were_left(ranks: Start) -> None:
    case = Case(residual="float32", codec="raw")
    for outcome in ranks(3)(run, case):
        assert outcome.residual is not None
        assert not outcome.residual.any()
    assert residual_of(case, 0) is not None


# --- bad input


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


def test_a_call_that_nobody_waits_for_keeps_its_memory(ranks: Start) -> None:
    """Arrays and result stay until it is over, though the caller has dropped them all."""
    late = threading.Barrier(2)

    def drop(comm: Communicator) -> None:
        if comm.rank == 0:
            for _ in range(4):
                comm.all_reduce(np.ones(400_000, np.float32), algorithm="ring")
        late.wait()
        if comm.rank == 1:
            works = [comm.all_reduce(np.ones(400_000, np.float32), algorithm="ring") for _ in range(4)]
            assert all((work.wait() == 2).all() for work in works)
        comm.barrier().wait()

    ranks(2)(drop)
