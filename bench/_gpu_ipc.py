"""`thinwire bench gpu`: a sum of two ranks that share one GPU and read each other's frames where they lie.

The ranks are processes. A round is one sum in place of fp32 values that travel raw, by the clock of the host,
from when both are ready to the end on both. For one half each rank must read its own values and the other's
and write their sum, the other half it must read and write: five halves a rank. That what is read must first
be put into memory that can be shared is not counted. The baseline is the time in which the device's own copy
moves as many bytes; the copy has the device to itself, while kernels of two processes take turns.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from thinwire import _core
from thinwire._codecs import codec
from thinwire._comm import Communicator
from thinwire.bench import _gpu_device
from thinwire.bench._cases import Case, Measured
from thinwire.bench._gpu_device import Copy, Effort, event_seconds, torch_and_kernels
from thinwire.bench._gpu_kernels import COPY

RANKS = 2
SLICE = 1 << 17
"""Values of a slice, as the hook has them."""
_NO_SAMPLE = 0xFFFFFFFF
_PLAN_ID = 1
_TIMEOUT_S = 60.0


def cases() -> list[Case]:
    """The row."""
    return [Case("all-reduce raw over CUDA IPC, 2 ranks", COPY, 0.5, _sums)]


def _sums(effort: Effort) -> Measured:
    torch = torch_and_kernels()
    with _ranks(effort.mebibytes << 18) as sum_of_two:
        copy = Copy(torch, effort)
        byte_count = RANKS * 5 * (effort.mebibytes << 20) // 2
        scale = byte_count / copy.byte_count
        pairs = [
            (sum_of_two(), scale * event_seconds(torch, copy, effort.launches))
            for _ in range(effort.rounds + 2)
        ][2:]  # windows are opened in the first one
    return Measured([own for own, _ in pairs], [base for _, base in pairs], byte_count)


@contextmanager
def _ranks(count: int) -> Iterator[Any]:
    """Two processes. Yields what has them add up `count` values each, and returns the seconds of it."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, folder, rank, count), daemon=True))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)

        def sum_of_two() -> float:
            for pipe in pipes:
                pipe.send("sum")
            return max(_answer(pipe) for pipe in pipes)

        try:
            yield sum_of_two
        finally:
            for pipe in pipes:
                pipe.close()  # they end with it
            for process in processes:
                process.join(_TIMEOUT_S)


def _answer(pipe: Connection) -> float:
    if not pipe.poll(_TIMEOUT_S):
        raise RuntimeError(f"a rank did not answer within {_TIMEOUT_S:g} s")
    answer: float | str = pipe.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _serve(pipe: Connection, folder: str, number: int, count: int) -> None:
    """The process of a rank."""
    try:
        with Rank(folder, number, count) as rank:
            while pipe.recv():
                seconds = rank.seconds()
                rank.check()
                pipe.send(seconds)
    except EOFError:
        return
    except Exception as error:
        pipe.send(f"rank {number}: {error}")


class Rank:
    """One of the two: its values, and a plan for them."""

    def __init__(self, folder: str, number: int, count: int) -> None:
        torch = torch_and_kernels()
        self._torch = torch
        store = torch.distributed.FileStore(str(Path(folder) / "store"), RANKS)
        self._comm = Communicator(store, number, RANKS, links="shm")
        self._mine = float(number + 1)
        self._values = torch.empty(count, device=_gpu_device.DEVICE)
        self._device = _core.Device(torch.cuda.current_device())
        raw = codec("raw").spec
        slices = []
        for index, first in enumerate(range(0, count, SLICE)):
            values = min(SLICE, count - first)
            layout = _core.Layout([(values, raw)], _PLAN_ID)
            slices.append((first, values, index % RANKS, index // RANKS, layout, [0], None, None, 0))
        self._plan = self._comm.native.make_plan(slices, _PLAN_ID, 0, 0, "direct")
        self._step = 0

    def __enter__(self) -> Rank:
        return self

    def __exit__(self, *exception: object) -> None:
        self._comm.close()

    def seconds(self) -> float:
        """Seconds of one mean in place."""
        self._values.fill_(self._mine)
        self._torch.cuda.synchronize()
        where = _core.OnDevice(self._device, 0, [])
        self._comm.barrier().wait()
        begin = time.perf_counter()
        address = self._values.data_ptr()
        operation = self._comm.run_plan(
            self._plan, self._step, 0, address, 1 / RANKS, (0, 0), b"", _NO_SAMPLE, where
        )
        if not operation.wait(_TIMEOUT_S):
            raise RuntimeError(f"a sum took more than {_TIMEOUT_S:g} s")
        operation.check()
        self._step += 1
        return time.perf_counter() - begin

    def check(self) -> None:
        """Raise RuntimeError unless the values are the mean and, but for the first, came by CUDA IPC."""
        if not bool((self._values == (1 + RANKS) / 2).all()):
            raise RuntimeError("the sum is wrong")
        (link,) = self._comm.stats()["links"]
        if self._step > 1 and link["cuda_ipc"] != "open":
            raise RuntimeError(f"CUDA IPC is {link['cuda_ipc'] or 'not open yet'}")
