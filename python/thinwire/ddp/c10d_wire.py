"""The collectives of torch's process groups, as the hook uses them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch.distributed.distributed_c10d import (  # type: ignore[attr-defined]
    AllgatherOptions,
    AllreduceOptions,
    AllToAllOptions,
)

from thinwire.ddp.base_wire import BaseWire
from thinwire.ddp.meeting import Meeting
from thinwire.errors import Timeout, TransportError


class C10dWire(BaseWire):
    """What one rank needs to talk to the others by collectives. The constructor is collective.

    Args are those of `BaseWire`; `deadline`: seconds one collective may take.
    """

    def __init__(
        self, meeting: Meeting, description: dict[str, Any], timeout: float, deadline: float
    ) -> None:
        super().__init__(meeting, description, timeout)
        self._deadline = timedelta(seconds=deadline)

    def all_to_all(
        self, recv: torch.Tensor, send: torch.Tensor, recv_sizes: Sequence[int], send_sizes: Sequence[int]
    ) -> Work:
        """Start phase 1: send `send_sizes[r]` bytes to each rank r, receive `recv_sizes[r]` bytes from it."""
        options = AllToAllOptions()
        options.timeout = self._deadline
        return self._start(0, lambda group: group.alltoall_base(recv, send, recv_sizes, send_sizes, options))

    def all_gather(self, recv: torch.Tensor, send: torch.Tensor) -> Work:
        """Start phase 2: send the bytes of `send` to every rank; `recv` gets as many from each, in order."""
        options = AllgatherOptions()
        options.timeout = self._deadline
        return self._start(1, lambda group: group._allgather_base(recv, send, options))

    def all_reduce(self, values: torch.Tensor) -> Work:
        """Start a plain sum of `values` over all ranks, in place, in the order of phase 1."""
        options = AllreduceOptions()
        options.timeout = self._deadline
        return self._start(0, lambda group: group.allreduce([values], options))

    def translate(self, error: RuntimeError) -> Timeout | TransportError:
        """Return the error of this library that says what the group said."""
        raise NotImplementedError

    def _group(self, phase: int) -> Any:
        """Return the group of a phase, counted from 0."""
        raise NotImplementedError

    def _place(self) -> torch.device:
        """Return the device whose memory the group takes."""
        return torch.device("cpu")

    def _gather_equal(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`, all of one length."""
        send = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self._place())
        recv = torch.empty(self.size * len(data), dtype=torch.uint8, device=send.device)
        options = AllgatherOptions()
        options.timeout = self._deadline
        self._start(0, lambda group: group._allgather_base(recv, send, options)).wait()
        everything = recv.cpu().numpy().tobytes()
        return [everything[r * len(data) : (r + 1) * len(data)] for r in range(self.size)]

    def _start(self, phase: int, launch: Callable[[Any], Any]) -> Work:
        try:
            return Work(launch(self._group(phase)), self)
        except RuntimeError as error:
            raise self.translate(error) from error


class Work:
    """A collective under way since `started` (perf_counter)."""

    __slots__ = ("_wire", "_work", "started")

    def __init__(self, work: Any, wire: C10dWire) -> None:
        self._work = work
        self._wire = wire
        self.started = time.perf_counter()

    def wait(self) -> None:
        """Wait until it is done. Raises TransportError (PeerLost among others) or Timeout."""
        try:
            self._work.wait()
        except RuntimeError as error:
            raise self._wire.translate(error) from error
