"""Threads and connections end with the state, with Python, and are left alone after a fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist

from ddp.ranks import Ranks
from ddp.training import attached, plain_step, train
from thinwire import InvalidArgument


def _threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("thinwire-"))


def _sockets() -> int:
    return sum(entry.is_socket() for entry in Path("/proc/self/fd").iterdir())


def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


THREADS = {
    "c10d": ["thinwire-decode", "thinwire-encode", "thinwire-reduce"],
    "native": ["thinwire-finish", "thinwire-start"],
}


def _dropped(rank: int, close: bool, transport: str) -> None:
    dist.barrier()
    before = _sockets()
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 2)
    assert _threads() == THREADS[transport]
    assert _sockets() > before
    dist.barrier()
    if close:
        state.close()
    else:
        del ddp, state
        gc.collect()
    assert _until(lambda: _threads() == [])
    assert _until(lambda: _sockets() <= before)


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_nothing_is_left(ranks: Callable[[int], Ranks], close: bool, transport: str) -> None:
    ranks(2)(_dropped, close, transport)


def _forked(rank: int, transport: str) -> None:
    """A child neither uses nor disturbs its parent's connections, and ends."""
    ddp, state = attached("int8", transport=transport)
    train(ddp, rank, 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            plain_step(ddp, rank, 2)
        except InvalidArgument:
            state.close()
            del ddp, state
            gc.collect()
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0
    train(ddp, rank, 2)
    state.close()


@pytest.mark.parametrize("transport", ["c10d", "native"])
def test_after_a_fork(ranks: Callable[[int], Ranks], transport: str) -> None:
    ranks(2)(_forked, transport)


SCRIPT = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
from ddp.training import attached, plain_step
rank = int(sys.argv[1])
dist.init_process_group("gloo", store=dist.FileStore({store!r}, 2), rank=rank, world_size=2)
ddp, state = attached("int8")
for step in range(3):
    plain_step(ddp, rank, step)
if {ending!r} == "error":
    raise SystemExit(3)
if {ending!r} == "destroy":
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("ending", ["nothing", "error", "destroy"])
def test_python_ends(tmp_path: Path, ending: str) -> None:
    """A script that closes nothing ends by itself."""
    tests = str(Path(__file__).parents[1])
    script = SCRIPT.format(tests=tests, store=str(tmp_path / "store"), ending=ending)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (3 if ending == "error" else 0), errors
        assert "Traceback" not in errors
