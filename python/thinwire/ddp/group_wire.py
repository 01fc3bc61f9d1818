"""The c10d transport of gradients on a CUDA device: the collectives of the model's own group, over NCCL.

A communicator of its own beside DDP's could hang: NCCL's kernels wait on the device for those of the other
ranks, and two communicators that are given work in another order on another rank wait for each other. In one
group all collectives have one order, that of the calls, which DDP keeps equal on all ranks; so they are made
where DDP makes its own, in the thread that calls the hook.
"""

from __future__ import annotations

from typing import Any

import torch

from thinwire.ddp.c10d_wire import C10dWire
from thinwire.ddp.meeting import Meeting
from thinwire.errors import TransportError


class GroupWire(C10dWire):
    """What one rank needs to talk to the others over a process group, from the memory of the current device.

    Args are those of `C10dWire`. NCCL has no deadline for one collective: the group's own timeout counts. A
    collective is only given to the device, and `Work.wait` lets torch's current stream wait for it.
    """

    def __init__(
        self, meeting: Meeting, description: dict[str, Any], timeout: float, deadline: float
    ) -> None:
        super().__init__(meeting, description, timeout, deadline)
        self._process_group = meeting.process_group

    def close(self) -> None:
        """Leave the group to its owner."""

    def translate(self, error: RuntimeError) -> TransportError:
        """Return the error of this library that says what the group said."""
        return TransportError(f"the process group failed: {error}")

    def _group(self, phase: int) -> Any:
        return self._process_group

    def _place(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device())
