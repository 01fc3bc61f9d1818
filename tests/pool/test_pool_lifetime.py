"""The ends of things: of threads, of forked children, of the interpreter, with arrays that still live."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

import thinwire as tw

MIB = 1 << 20


def live(pool: tw.HostPool) -> int:
    return int(pool.stats().as_dict()["live"])


def test_a_thread_that_ends_leaves_its_arrays_and_gives_back_the_rest():
    pool = tw.HostPool(limit="64MiB")
    kept: list[Any] = []

    def work(number: int) -> None:
        for size in (100, 5000, 100_000):
            for _ in range(20):
                pool.empty(size).numpy()[:] = number
        x = pool.empty(1000).numpy()
        x[:] = number
        kept.append((number, x))

    for number in range(12):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        thread.join()
    assert all((x == number).all() for number, x in kept)
    # A thread that comes later works with what those before it have left.
    assert pool.stats().as_dict()["held"] < 32 * MIB
    kept.clear()
    assert live(pool) == 0


def test_arrays_outlive_the_thread_and_the_pool():
    views = []

    def work() -> None:
        views.append(tw.HostPool(limit="4MiB").empty(5000, "int16").numpy())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    for number, view in enumerate(views):
        view[:] = number
    assert [int(view.sum()) for view in views] == [0, 5000, 10000, 15000]


def child(pool: tw.HostPool, inherited: Any, results: Any) -> None:
    """Reads what its parent wrote, allocates of the same pool, and drops both."""
    seen = int(inherited.numpy().sum())
    own = [pool.empty(size) for size in (100, 5000, MIB, 65 * MIB)]
    for a in own:
        a.numpy()[:] = 3
    inherited.numpy()[:] = 9  # a copy on write: the parent does not see it
    right = all((a.numpy() == 3).all() for a in own)
    addresses = {a.address for a in own}
    del own, inherited
    gc.collect()
    again = pool.empty(100)
    again.numpy()[:] = 4
    results.put((seen, right, len(addresses), int(again.numpy().sum())))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("shared", [False, True])
def test_a_forked_child_reads_allocates_and_exits(shared):
    pool = tw.HostPool.shared() if shared else tw.HostPool(limit="512MiB")
    a = pool.empty(1000)
    a.numpy()[:] = 1
    before = live(pool)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=child, args=(pool, a, results)) for _ in range(2)]
    for process in children:
        process.start()
    assert [results.get(timeout=30) for _ in children] == [(1000, True, 4, 400)] * 2
    for process in children:
        process.join(30)
    assert [process.exitcode for process in children] == [0, 0]
    assert (a.numpy() == 1).all()
    assert live(pool) == before
    assert pool.empty(1000).address != a.address


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_other_threads_allocate():
    pool = tw.HostPool(limit="512MiB")
    stop = threading.Event()

    def churn() -> None:
        sizes = [100, 3000, 70_000, 2 * MIB]
        while not stop.is_set():
            for size in sizes:
                pool.empty(size)
            time.sleep(1e-4)  # who forks needs the interpreter's lock many times

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(8):
            process = context.Process(target=lambda: pool.empty(3000).numpy().fill(1))
            process.start()
            process.join(30)
            assert process.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert live(pool) == 0


EXITS = {
    "arrays in globals": "a = pool.empty(1000); b = a.numpy(); m = memoryview(a)",
    "arrays in a cycle": "l = [pool.empty(1000)]; l.append(l); l.append(l[0].numpy())",
    "arrays in a module": "import json; json.kept = pool.empty(1000).numpy()",
    "the shared pool": "a = tw.HostPool.shared().empty(1 << 20); b = np.asarray(a)",
    "an atexit function": "import atexit; a = pool.empty(9); atexit.register(lambda: a.numpy().fill(1))",
    "daemon threads in native code": """
        import threading, time
        data = np.zeros(20_000, np.uint8)
        def churn():
            while True:
                pool.empty(70_000).numpy()[:] = 1
                tw.blake3(data)
        for _ in range(6):
            threading.Thread(target=churn, daemon=True).start()
        time.sleep(0.05)
    """,
    "an array of a thread that has gone": """
        import threading
        kept = []
        t = threading.Thread(target=lambda: kept.append(pool.empty(5000).numpy()))
        t.start(); t.join()
    """,
    "an array in thread-local storage": """
        import threading
        local = threading.local(); local.a = pool.empty(5000)
    """,
    "a registration": "x = np.zeros(1 << 20); r = tw.register_(x); y = np.zeros(1 << 16); tw.register_(y)",
    "sys.exit": "import sys; a = pool.empty(1000).numpy(); sys.exit(0)",
}


@pytest.mark.parametrize("what", EXITS)
def test_the_interpreter_ends_with_live_arrays(what):
    head = "import numpy as np, thinwire as tw; pool = tw.HostPool(limit='64MiB')\n"
    program = head + textwrap.dedent(EXITS[what])
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("an array of ")]


def test_the_interpreter_ends_with_live_tensors():
    pytest.importorskip("torch")
    program = (
        "import torch, thinwire as tw; a = tw.HostPool(limit='64MiB').empty(1000, 'float32').torch();"
        "b = a[10:]; c = torch.from_dlpack(tw.HostPool.shared().empty(10, 'bfloat16'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_spawned_children_have_pools_of_their_own():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as workers:
        assert workers.apply(total, (1000,)) == 3000


def total(count: int) -> int:
    x: np.ndarray[Any, Any] = tw.HostPool.shared().empty(count).numpy()
    x[:] = 3
    return int(x.sum())
