"""What a call does with its arrays: in place, kept, of any dtype; and what residuals keep."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from comm_cases import CODECS, TREES, Case, as_array, every_codec, expected, residual_of, run, values_of
from comm_ranks import Start
from support import DTYPES
from thinwire._comm import Communicator


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


def test_residuals_begin_where_they_were_left(ranks: Start) -> None:
    case = Case(residual="float32", codec="raw")
    for outcome in ranks(3)(run, case):
        assert outcome.residual is not None
        assert not outcome.residual.any()
    assert residual_of(case, 0) is not None


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
