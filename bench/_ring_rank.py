"""The process of one rank of `bench ring`: reads sizes as lines of JSON, answers with samples.

All methods run in this process, one after another in every round, so that they share whatever the machine
does in the meantime. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from thinwire import Communicator
from thinwire.bench._ring_plan import GLOO, Effort, calls_for
from thinwire.cli import _sockets

_TIMEOUT_S = 120.0
_COMPARED = 1 << 20
"""Values of a result that are compared with Gloo's."""


class Methods:
    """The process's Gloo group and its communicators, one for each kind of link."""

    def __init__(self, names: list[str], pace_bits: int) -> None:
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.names = names
        limit = timedelta(seconds=_TIMEOUT_S)
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, self.ranks, is_master=self.rank == 0, timeout=limit)
        dist.init_process_group(
            "gloo", store=PrefixStore(GLOO, store), rank=self.rank, world_size=self.ranks, timeout=limit
        )
        kinds = dict.fromkeys(name.partition("/")[0] for name in names if name != GLOO)
        interface = os.environ["GLOO_SOCKET_IFNAME"]
        self.communicators = {
            kind: Communicator(
                store, self.rank, self.ranks, kind, timeout=_TIMEOUT_S, group=kind, interface=interface
            )
            for kind in kinds
        }
        if pace_bits:
            _sockets.pace_connections(pace_bits, _sockets.connection_ids())

    def links(self) -> dict[str, list[dict[str, Any]]]:
        """What each communicator says of its links."""
        return {kind: communicator.stats()["links"] for kind, communicator in self.communicators.items()}

    def call(self, name: str, values: torch.Tensor) -> Callable[[], object]:
        """What one call of a method is: a sum in place, as DDP has it done."""
        if name == GLOO:
            return lambda: dist.all_reduce(values)
        link, _, codec = name.partition("/")
        communicator, array = self.communicators[link], values.numpy()
        return lambda: communicator.all_reduce(array, codec=codec, out=array).wait()

    def sent_bytes(self, name: str) -> int:
        """Bytes that a thinwire method's links have sent, headers of frames included."""
        stats = self.communicators[name.partition("/")[0]].stats()
        return sum(link["sent_bytes"] for link in stats["links"])


def measure(methods: Methods, size: int, effort: Effort) -> dict[str, Any]:
    """Run rounds of all methods over `size` bytes. Collective; every rank returns the same samples."""
    fresh = torch.from_numpy(np.random.default_rng(methods.rank).standard_normal(size // 4, np.float32))
    values = fresh.clone()
    calls = {name: methods.call(name, values) for name in methods.names}
    calls[GLOO]()
    expected = values[:_COMPARED].clone()

    def sample(name: str, count: int) -> float:
        seconds = 0.0
        for number in range(count):
            values.copy_(fresh)  # sums of sums would grow without end
            if number == 0:
                dist.barrier()
            started = time.perf_counter()
            calls[name]()
            seconds += time.perf_counter() - started
        return seconds / count

    errors = {}
    for name in methods.names:
        sample(name, 1)  # touches memory and makes what the first call makes
        errors[name] = _relative_error(values[:_COMPARED], expected)
    warm = _slowest_rank([sample(name, 1) for name in methods.names])
    counts = {name: calls_for(seconds) for name, seconds in zip(methods.names, warm, strict=True)}
    rounds = effort.rounds(sum(counts[name] * s for name, s in zip(methods.names, warm, strict=True)))
    samples: dict[str, list[float]] = {name: [] for name in methods.names}
    sent: dict[str, int] = {}
    for number in range(rounds):
        for name in methods.names:
            before = methods.sent_bytes(name) if number == 0 and name != GLOO else 0
            samples[name].append(sample(name, counts[name]))
            if number == 0 and name != GLOO:
                sent[name] = (methods.sent_bytes(name) - before) // counts[name]
    return {
        "samples": {name: _slowest_rank(seconds) for name, seconds in samples.items()},
        "calls": counts,
        "sent_bytes": sent,
        "relative_error": errors,
    }


def _slowest_rank(seconds: list[float]) -> list[float]:
    """Each sample as the slowest rank saw it."""
    slowest = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    found: list[float] = slowest.tolist()
    return found


def _relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main() -> int:
    """Serve until the input ends; status 1 after a failure, which leaves the groups unusable."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints belongs into the log

    def emit(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    torch.set_num_threads(1)
    setting = json.loads(sys.stdin.readline())
    methods = Methods(setting["methods"], setting["pace_bits"])
    effort = Effort(**setting["effort"])
    emit({"links": methods.links()})
    for line in sys.stdin:
        emit(measure(methods, json.loads(line)["bytes"], effort))
    dist.barrier()
    for communicator in methods.communicators.values():
        communicator.close()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
