"""What real training asks of a pool: sizes of buckets, frames, batches and checkpoints, in their order.

`pool_trace.json` beside this file was recorded by `python -m thinwire.bench._pool_record`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).with_name("pool_trace.json")


@dataclass(frozen=True)
class Trace:
    """Blocks that one workload takes and gives back.

    A positive event takes so many bytes; a negative one, -n, gives back the n-th block that was taken.
    """

    name: str
    events: Sequence[int]

    @property
    def sizes(self) -> list[int]:
        """Bytes of every block, in the order in which they were taken."""
        return [event for event in self.events if event > 0]

    def steps(self) -> Iterator[tuple[int, int]]:
        """(block, bytes) where block number `block`, from 0 on, is taken; (block, 0) where it goes back."""
        taken = 0
        for event in self.events:
            yield (taken, event) if event > 0 else (-event - 1, 0)
            taken += event > 0


class Recorder:
    """Writes down what is taken and given back."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self._taken = 0

    def take(self, size: int) -> int:
        """Notes a block of `size` bytes, 1 or more; returns its number for `give`."""
        self.events.append(size)
        self._taken += 1
        return self._taken

    def give(self, number: int) -> None:
        """Notes that a block goes back."""
        self.events.append(-number)


def load(path: Path = RECORDED) -> list[Trace]:
    """The workloads of a file that `save` wrote."""
    content = json.loads(path.read_text())
    return [Trace(name, events) for name, events in content["workloads"].items()]


def save(path: Path, source: dict[str, str], traces: Sequence[Trace]) -> None:
    """Writes workloads, one a line, under what says where they come from."""
    lines = [f"  {json.dumps(t.name)}: {json.dumps(list(t.events), separators=(',', ':'))}" for t in traces]
    body = ",\n".join(lines)
    path.write_text(f'{{"source": {json.dumps(source)},\n "workloads": {{\n{body}\n}}}}\n')
