"""Ranks for tests: processes that live through the session and run one function after another together.

A process that imports torch takes seconds; a function in one that has it takes milliseconds. A test that
kills or blocks a rank asks for fresh ones.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch._dynamo", "torch.distributed", "thinwire.ddp"])
TIMEOUT = 60.0


class RankError(AssertionError):
    """A function raised on one rank; the message is its traceback."""


class Ranks:
    """`size` processes with one process group. Call it with a function of a test module and its arguments."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._folder = tempfile.TemporaryDirectory()
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(size):
            ours, theirs = _CONTEXT.Pipe()
            store = str(Path(self._folder.name) / "store")
            process = _CONTEXT.Process(target=_serve, args=(theirs, store, rank, size), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __call__(self, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> list[Any]:
        """Run `function(rank, *args)` on all ranks; returns their results in order.

        Raises RankError with the traceback of the first rank that raised, or that died or did not end in
        time. The ranks are then of no more use.
        """
        outcomes = self.outcomes(function, *args, timeout=timeout)
        for rank, (kind, value) in enumerate(outcomes):
            if kind == "error":
                self.stop()
                raise RankError(f"on rank {rank}:\n{value}")
        for rank, (kind, value) in enumerate(outcomes):
            if kind != "result":
                self.stop()
                raise RankError(f"rank {rank} {kind}: {value}")
        return [value for _, value in outcomes]

    def outcomes(
        self, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT
    ) -> list[tuple[str, Any]]:
        """Run likewise; return ("result", value), ("error", traceback), ("died", exit code), ("hangs",
        seconds)."""
        task = pickle.dumps((function.__code__.co_filename, function.__qualname__, args))
        for pipe in self._pipes:
            pipe.send_bytes(task)
        end, found = monotonic() + timeout, {}
        while len(found) < self.size and (left := end - monotonic()) > 0:
            waiting = {self._pipes[rank]: rank for rank in range(self.size) if rank not in found}
            for pipe in wait(list(waiting), timeout=left):
                found[waiting[pipe]] = self._receive(waiting[pipe])
        return [found.get(rank, ("hangs", timeout)) for rank in range(self.size)]

    def stop(self) -> None:
        """End all processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes = []
        self._folder.cleanup()

    @property
    def stopped(self) -> bool:
        """Whether the processes are gone."""
        return not self._pipes

    def _receive(self, rank: int) -> tuple[str, Any]:
        try:
            return pickle.loads(self._pipes[rank].recv_bytes())
        except EOFError:
            self._processes[rank].join(5)
            return "died", self._processes[rank].exitcode


def _serve(pipe: Connection, store: str, rank: int, size: int) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    modules: dict[str, ModuleType] = {}
    while True:
        try:
            path, name, args = pickle.loads(pipe.recv_bytes())
        except EOFError:
            dist.destroy_process_group()
            return
        try:
            if path not in modules:
                modules[path] = _load(path)
            function = getattr(modules[path], name)
            outcome = ("result", function(rank, *args))
        except BaseException:
            outcome = ("error", traceback.format_exc())
        pipe.send_bytes(pickle.dumps(outcome))


def _load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
