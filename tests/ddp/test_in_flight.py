"""How much is under way at a time, and what becomes of it when the state is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import assert_replicas, attached, plain_step, train
from thinwire import TransportError
from thinwire.ddp import native_engine
from thinwire.ddp.in_flight import InFlight


def assert_waits_for(gate: InFlight, entering: int, leaving: int) -> None:
    """What enters waits until something leaves."""
    thread = threading.Thread(target=gate.enter, args=(entering,), daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    gate.leave(leaving)
    thread.join(10)
    assert not thread.is_alive()


def test_what_does_not_fit_waits_for_what_leaves() -> None:
    gate = InFlight(5)
    gate.enter(3)
    gate.enter(2)
    assert_waits_for(gate, entering=2, leaving=2)
    assert_waits_for(gate, entering=3, leaving=3)


def test_what_is_too_much_goes_alone() -> None:
    gate = InFlight(5)
    gate.enter(100)
    assert_waits_for(gate, entering=1, leaving=100)
    assert_waits_for(gate, entering=100, leaving=1)


def _one_at_a_time(rank: int) -> None:
    most, native_engine._MOST_IN_FLIGHT = native_engine._MOST_IN_FLIGHT, 1
    try:
        ddp, state = attached("int8")
        train(ddp, rank, 3)
        assert_replicas(ddp)
        assert len(state._engine._planner.programs()) > 1
        state.close()
    finally:
        native_engine._MOST_IN_FLIGHT = most


def test_one_bucket_at_a_time_is_enough(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_one_at_a_time)


def _closed_meanwhile(rank: int) -> None:
    ddp, state = attached("sign1")
    train(ddp, rank, 2)
    if rank == 0:
        closing = threading.Timer(0.5, state.close)
        closing.start()
        began = time.monotonic()
        with pytest.raises(TransportError, match="closed"):
            plain_step(ddp, rank, 2)
        assert time.monotonic() - began < 30
        closing.join()
    dist.barrier()  # rank 1 lives, and does not come
    state.close()


def test_closing_ends_a_backward_that_waits(ranks: Callable[[int], Ranks]) -> None:
    """Another thread, a watchdog, closes the state while a bucket waits for a rank."""
    ranks(2)(_closed_meanwhile)
