"""What passes through the engine's queues, and the buffers it travels in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from thinwire.ddp.base_program import BaseProgram
from thinwire.ddp.c10d_wire import Work
from thinwire.ddp.frames import HostFrames
from thinwire.ddp.program import PieceProgram
from thinwire.ddp.step import Failure, Step

SLOTS = 2
"""Pieces that may be in each phase at a time."""
_HOST = torch.device("cpu")


class Slot:
    """Buffers for one piece in one phase. They grow to the largest piece and stay."""

    def __init__(self, device: torch.device = _HOST) -> None:
        self.send, self.recv = (torch.empty(0, dtype=torch.uint8, device=device) for _ in range(2))

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.send.nbytes + self.recv.nbytes

    def ensure(self, send_bytes: int, recv_bytes: int) -> None:
        """Make room, while nobody uses the slot."""
        if self.send.numel() < send_bytes:
            self.send = self.send.new_zeros(send_bytes)
        if self.recv.numel() < recv_bytes:
            self.recv = self.recv.new_zeros(recv_bytes)


@dataclass
class Job:
    """One bucket on its way. `left` counts the pieces that are not done; it starts at 1 for "not cut yet".

    `program` is what it is reduced by, once that is known; None for a dtype that is not compressed. On a CUDA
    device, `ready` is the event after which the buffer may be read, `stream` what it is worked on.
    """

    step: Step
    bucket: int
    is_last: bool
    buffer: torch.Tensor
    parameters: Sequence[torch.Tensor]
    future: torch.futures.Future[torch.Tensor]
    left: int = 1
    program: BaseProgram | None = None
    ready: torch.cuda.Event | None = None
    stream: torch.cuda.Stream | None = None


@dataclass
class Item:
    """One piece between two threads. `failure` is what this rank's frames say instead of values.

    `nonfinite` says whether the mean it owns holds NaN or infinity. That counts for the step when the piece
    is decoded: in the order of buckets, as on the other ranks.
    """

    job: Job
    frames: HostFrames
    piece: PieceProgram
    slot: Slot
    work: Work
    failure: Failure | None
    nonfinite: bool = False


@dataclass
class PlainItem:
    """A bucket of a dtype that is not compressed: summed as it is, with the weights beside it."""

    job: Job
    work: Work
    weights: torch.Tensor
    weights_work: Work


@dataclass
class EndItem:
    """Follows the last piece of a job."""

    job: Job


class SlotQueue:
    """The slots of one phase. Getting one waits until one is free."""

    def __init__(self, count: int) -> None:
        self._slots = [Slot() for _ in range(count)]
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return sum(slot.nbytes for slot in self._slots)

    def get(self, send_bytes: int, recv_bytes: int) -> Slot:
        """Take a slot with at least these bytes."""
        slot = self._free.get()
        slot.ensure(send_bytes, recv_bytes)
        return slot

    def put(self, slot: Slot) -> None:
        """Give a slot back."""
        self._free.put(slot)
