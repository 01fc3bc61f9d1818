"""A rank that dies, stops or leaves: every survivor names it in time, hangs nowhere and leaves nothing."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comm_ranks import FolderStore, Nursery, Process, Threads, descriptors, threads_named_thinwire
from comm_survivors import TIMEOUT, Say, check_survivor, reduce_until_it_fails, rounds, survive
from thinwire._comm import Communicator
from thinwire.errors import InvalidArgument, PeerLost, Timeout, TransportError


def start(processes: list[Process], folder: Path, victims: list[int], seed: int = 0, **options: Any) -> None:
    """Start ranks, and wait until all are connected."""
    folder.mkdir()
    for rank, process in enumerate(processes):
        process.start(survive, str(folder), rank, len(processes), victims, seed, options)
    for process in processes:
        assert process.hear() == "connected"


def lose(nursery: Nursery, folder: Path, size: int, number: int, seed: int, **options: Any) -> None:
    """Send a signal to one rank at a random moment."""
    draw = random.Random(seed)
    victim = draw.randrange(size)
    with nursery.processes(size) as processes:
        start(processes, folder, [victim], seed, **options)
        time.sleep(draw.uniform(0, 0.05))
        since = processes[victim].signal(number)
        for rank, process in enumerate(processes):
            if rank != victim:
                check_survivor(process.hear(), victim, since, size - 1)


links = pytest.mark.parametrize("links", ["tcp", "shm"])


@rounds()
@links
def test_killed(nursery: Nursery, tmp_path: Path, links: str, seed: int) -> None:
    lose(nursery, tmp_path / "store", 2 + seed % 3, signal.SIGKILL, seed, links=links)


@rounds()
@links
def test_stopped(nursery: Nursery, tmp_path: Path, links: str, seed: int) -> None:
    lose(nursery, tmp_path / "store", 2 + seed % 3, signal.SIGSTOP, seed, links=links)


@links
def test_stopped_for_a_while(nursery: Nursery, tmp_path: Path, links: str) -> None:
    """Whoever comes back finds that the others went on without it."""
    with nursery.processes(3) as processes:
        start(processes, tmp_path / "store", [1], links=links)
        since = processes[1].signal(signal.SIGSTOP)
        for rank in (0, 2):
            check_survivor(processes[rank].hear(), 1, since, 2)
        since = processes[1].signal(signal.SIGCONT)
        found = processes[1].hear()
        assert issubclass(found["error"], TransportError), found
        assert found["when"] - since < TIMEOUT, found
        assert (found["threads"], found["descriptors"]) == (0, 0), found


@links
def test_a_short_stop_is_no_loss(nursery: Nursery, tmp_path: Path, links: str) -> None:
    with nursery.processes(2) as processes:
        start(processes, tmp_path / "store", [1], links=links)
        processes[1].signal(signal.SIGSTOP)
        time.sleep(0.5)
        processes[1].signal(signal.SIGCONT)
        with pytest.raises(AssertionError, match="hangs"):
            processes[0].hear(1.0)
        since = processes[1].signal(signal.SIGKILL)
        check_survivor(processes[0].hear(), 1, since, 1)


def _leave(say: Say, folder: str, rank: int, size: int, how: str, options: Any) -> None:
    """Close or abort in the middle of a stream."""
    comm = Communicator(FolderStore(folder), rank, size, timeout=TIMEOUT, **options)
    say("connected")
    timer = threading.Timer(0.02, getattr(comm, how))
    timer.start()
    try:
        reduce_until_it_fails(comm, 0)
    except (TransportError, InvalidArgument) as error:
        say((time.monotonic(), type(error), getattr(error, "rank", None)))
    timer.join()
    comm.close()
    say((threads_named_thinwire(), 0))


@pytest.mark.parametrize("how", ["close", "abort"])
@links
def test_left_in_the_middle(nursery: Nursery, tmp_path: Path, links: str, how: str) -> None:
    for size in (2, 3):
        folder = tmp_path / f"store{size}"
        folder.mkdir()
        with nursery.processes(size) as processes:
            options = {"links": links}
            for rank, process in enumerate(processes[:-1]):
                process.start(survive, str(folder), rank, size, [size - 1], 0, options)
            processes[-1].start(_leave, str(folder), size - 1, size, how, options)
            for process in processes:
                assert process.hear() == "connected"
            since, error, _ = processes[-1].hear()
            assert issubclass(error, (TransportError, InvalidArgument))
            assert error is not PeerLost
            assert processes[-1].hear() == (0, 0)
            for process in processes[:-1]:
                check_survivor(process.hear(), size - 1, since, size - 1)


def _keep_a_child(say: Say, folder: str, rank: int, size: int, options: Any) -> None:
    """Reduce with a forked child that holds all sockets open, as a loader does."""
    comm = Communicator(FolderStore(folder), rank, size, timeout=TIMEOUT, **options)
    child = os.fork()
    if child == 0:
        time.sleep(20)
        os._exit(0)
    say("connected")
    say(child)
    reduce_until_it_fails(comm, 0)


@links
def test_killed_while_a_forked_child_holds_the_sockets(nursery: Nursery, tmp_path: Path, links: str) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    with nursery.processes(3) as processes:
        options = {"links": links}
        for rank in (0, 1):
            processes[rank].start(survive, str(folder), rank, 3, [2], 0, options)
        processes[2].start(_keep_a_child, str(folder), 2, 3, options)
        for process in processes:
            assert process.hear() == "connected"
        child = processes[2].hear()
        try:
            since = processes[2].signal(signal.SIGKILL)
            for rank in (0, 1):
                check_survivor(processes[rank].hear(), 2, since, 2)
        finally:
            os.kill(child, signal.SIGKILL)


def _use_after_fork(say: Say, folder: str) -> Any:
    """Try a parent's communicator, and what it began, in a child; then use it in the parent."""
    with Communicator(FolderStore(folder), 0, 1, timeout=TIMEOUT) as comm:
        begun = comm.all_reduce(np.ones(3, np.float32))
        readable, writable = os.pipe()
        if os.fork() == 0:
            for call in (lambda: comm.all_reduce(np.ones(3, np.float32)), begun.wait, begun.done):
                try:
                    call()
                except InvalidArgument as error:
                    os.write(writable, f"{error}\n".encode())
            comm.close()
            os._exit(0)
        assert (begun.wait() == 1).all()
        text = os.read(readable, 1000).decode()
        return text, float(comm.all_reduce(np.ones(3, np.float32)).wait()[0])


def test_a_child_cannot_use_its_parents_communicator(nursery: Nursery, tmp_path: Path) -> None:
    with nursery.processes(1) as [process]:
        process.start(_use_after_fork, str(tmp_path / "store"))
        text, value = process.hear()
    assert [line for line in text.splitlines() if "before a fork" in line] == text.splitlines()
    assert len(text.splitlines()) == 3
    assert value == 1


def _idle(say: Say, folder: str, rank: int, size: int, links: str) -> Any:
    """Wait for a rank's loss without any operation, then start one."""
    comm = Communicator(FolderStore(folder), rank, size, timeout=TIMEOUT, links=links)
    say("connected")
    say("go")
    end = time.monotonic() + 3 * TIMEOUT
    while time.monotonic() < end:
        try:
            comm.barrier(tag=0 if rank == 1 else "never").wait() if rank == 9 else time.sleep(0.01)
            comm.all_reduce(np.ones(0, np.float32), tag=time.monotonic())
        except PeerLost as error:
            comm.close()
            return error.rank, time.monotonic(), threads_named_thinwire()
    return None


@links
def test_calls_after_a_loss_raise_at_once(nursery: Nursery, tmp_path: Path, links: str) -> None:
    with nursery.processes(2) as processes:
        for rank, process in enumerate(processes):
            process.start(_idle, str(tmp_path / "store"), rank, 2, links)
        for process in processes:
            assert [process.hear(), process.hear()] == ["connected", "go"]
        since = processes[1].signal(signal.SIGKILL)
        rank, when, threads = processes[0].hear()
    assert (rank, threads) == (1, 0)
    assert when - since < TIMEOUT


def _interrupted(say: Say, folder: str, rank: int, links: str) -> Any:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Communicator(FolderStore(folder), rank, 2, timeout=10.0, links=links) as comm:
        if rank == 1:
            comm.barrier(tag="end").wait()
            comm.all_reduce(np.ones(3, np.float32)).wait()
            return None
        work = comm.all_reduce(np.ones(3, np.float32))
        say("waiting")
        try:
            work.wait()
        except KeyboardInterrupt:
            when = time.monotonic()
        comm.barrier(tag="end").wait()
        return when, float(work.wait()[0])


def test_ctrl_c_ends_a_wait_and_nothing_else(nursery: Nursery, tmp_path: Path) -> None:
    with nursery.processes(2) as processes:
        for rank, process in enumerate(processes):
            process.start(_interrupted, str(tmp_path / "store"), rank, "auto")
        assert processes[0].hear() == "waiting"
        time.sleep(0.05)
        since = processes[0].signal(signal.SIGINT)
        when, value = processes[0].hear()
        assert processes[1].hear() is None
    assert when - since < 1
    assert value == 2


# --- ranks as threads


@pytest.mark.parametrize("algorithm", ["direct", "ring", "doubling", "barrier"])
@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_deadline_ends_all_waits(algorithm: str, late: int) -> None:
    deadline = 0.4

    def reduce(comm: Communicator) -> float:
        begin = time.monotonic()
        if comm.rank != late:
            if algorithm == "barrier":
                comm.barrier().wait()
            else:
                comm.all_reduce(np.ones(5000, np.float32), algorithm=algorithm).wait()
        return time.monotonic() - begin

    with Threads(4, links="inproc", deadline=deadline) as threads:
        begin = time.monotonic()
        outcomes = threads.outcomes(reduce)
        took = time.monotonic() - begin
    assert deadline <= took < deadline + 1
    for rank, outcome in enumerate(outcomes):
        if rank != late:
            assert isinstance(outcome, Timeout), outcome
            assert f"rank {late} did not answer within 0.4 s (deadline)" in str(outcome)


def test_abort_frees_every_waiting_thread() -> None:
    started = threading.Barrier(3)

    def again(comm: Communicator) -> None:
        comm.all_reduce(np.ones(3, np.float32))

    def wait_for_good(comm: Communicator) -> None:
        if comm.rank == 0:
            started.wait()
            started.wait()
            comm.abort("enough")
        else:
            work = comm.all_reduce(np.ones(10, np.float32), tag="good")
            started.wait()
            started.wait()
            work.wait()

    with Threads(3, links="inproc", timeout=TIMEOUT) as threads:
        begin = time.monotonic()
        aborted, *others = threads.outcomes(wait_for_good)
        assert time.monotonic() - begin < 1
        assert aborted is None
        for outcome in others:
            assert isinstance(outcome, PeerLost), outcome
            assert outcome.rank == 0
            assert "enough" in str(outcome)
        for rank, outcome in enumerate(threads.outcomes(again)):
            assert isinstance(outcome, TransportError if rank == 0 else PeerLost)


def test_keep_input_gives_values_back_after_a_failure() -> None:
    started = threading.Barrier(2)

    def reduce(comm: Communicator) -> np.ndarray:
        x = np.full(400_000, float(comm.rank), np.float32)
        work = comm.all_reduce(x, out=x, keep_input=True, algorithm="ring")
        if comm.rank == 0:
            with pytest.raises(Timeout):
                work.wait()
        return x

    def never(comm: Communicator) -> np.ndarray | None:
        outcome = reduce(comm) if comm.rank == 0 else None
        started.wait()
        return outcome

    with Threads(2, links="inproc", deadline=0.3) as threads:
        x, _ = threads(never)
    assert not x.any()


@pytest.mark.parametrize("links", ["tcp", "shm", "inproc"])
def test_nothing_is_left_behind(links: str) -> None:
    with Threads(2, links="inproc"):
        pass  # whatever is made once is there now
    before = threads_named_thinwire(), descriptors()
    for size in (1, 2, 4):
        with Threads(size, links=links) as threads:
            threads(lambda comm: comm.barrier().wait())
            assert threads_named_thinwire() == before[0] + size
    assert (threads_named_thinwire(), descriptors()) == before


def test_closing_twice_and_calls_after_it() -> None:
    with Threads(2, links="inproc") as threads:
        threads(Communicator.close)
        threads(Communicator.close)
        for outcome in threads.outcomes(lambda comm: comm.barrier()):
            assert isinstance(outcome, InvalidArgument)
            assert "closed" in str(outcome)


def test_all_may_close_right_after_the_last_call() -> None:
    """A goodbye does not overtake results that others still wait for."""

    def reduce(comm: Communicator) -> float:
        value = comm.all_reduce(np.ones(300_000, np.float32), algorithm="ring").wait()[-1]
        comm.close()
        return float(value)

    for links in ("tcp", "shm", "inproc"):
        for size in (2, 4):
            with Threads(size, links=links) as threads:
                assert threads(reduce) == [size] * size


def test_destroyed_without_close() -> None:
    def lose_it() -> None:
        threads = Threads(2, links="inproc")
        threads(lambda comm: comm.barrier().wait())
        threads._pool.shutdown()
        threads.comms.clear()

    before = threads_named_thinwire()
    lose_it()
    import gc

    gc.collect()
    assert threads_named_thinwire() == before
