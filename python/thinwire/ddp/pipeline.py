"""The stages that the buckets of a CUDA device go through, and the memory they share.

    encode   encodes this rank's part of every other owner's share, and phase 1 follows
    add      behind phase 1, adds up this rank's own share, encodes the mean, and phase 2 follows
    decode   behind phase 2, decodes the other owners' means into the bucket

They are the threads of `engine`, as streams: one piece is encoded while others are on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from thinwire.ddp.jobs import SLOTS, Slot
from thinwire.ddp.stage import Stage
from thinwire.errors import NotBuilt

if TYPE_CHECKING:
    from thinwire.ddp.device_program import Needs


class DeviceSlot(Slot):
    """Buffers on a device. `free` is the event after which they may be used again; None for at once."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.free: torch.cuda.Event | None = None


class SlotRing:
    """The slots of one phase, which are used in turn."""

    def __init__(self, device: torch.device) -> None:
        self._slots = [DeviceSlot(device) for _ in range(SLOTS)]
        self._next = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return sum(slot.nbytes for slot in self._slots)

    def ensure(self, send_bytes: int, recv_bytes: int) -> None:
        """Make room in all slots, while nobody uses them."""
        for slot in self._slots:
            slot.ensure(send_bytes, recv_bytes)

    def take(self, stage: Stage) -> DeviceSlot:
        """Return the next slot, for which the stage waits."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % SLOTS
        if slot.free is not None:
            stage.wait(slot.free)
        return slot


class Pipeline:
    """Three stages on one device, with a ring of slots for each phase.

    Attributes:
        encode, add, decode: the stages.
        to_owner, from_owner: the slots of phases 1 and 2.
        scratch: where a share is added up, (values,) fp32.
    """

    def __init__(self, device: torch.device, make_stage: Callable[[torch.device], Stage] = Stage) -> None:
        self.device = device
        self.encode, self.add, self.decode = self._stages = [make_stage(device) for _ in range(3)]
        self.to_owner, self.from_owner = SlotRing(device), SlotRing(device)
        self.scratch = torch.empty(0, dtype=torch.float32, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of all memory."""
        slots = self.to_owner.nbytes + self.from_owner.nbytes
        return slots + self.scratch.nbytes + sum(stage.work.nbytes for stage in self._stages)

    def ensure(self, needs: Needs) -> None:
        """Make room for a new program. Waits for what is under way: it may use memory that is given back."""
        for stage in self._stages:
            stage.synchronize()
        self.to_owner.ensure(needs.to_owner.send, needs.to_owner.recv)
        self.from_owner.ensure(needs.from_owner.send, needs.from_owner.recv)
        if self.scratch.numel() < needs.scratch_values:
            self.scratch = self.scratch.new_empty(needs.scratch_values)
        for stage in self._stages:
            if stage.work.numel() < needs.work_bytes:
                stage.work = stage.work.new_empty(needs.work_bytes)


class Place:
    """The pipeline of the one device that a HookState works on, made at its first use."""

    def __init__(self, make_stage: Callable[[torch.device], Stage] = Stage) -> None:
        self._make_stage = make_stage
        self._pipeline: Pipeline | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all memory."""
        return self._pipeline.nbytes if self._pipeline is not None else 0

    def of(self, device: torch.device) -> Pipeline:
        """Return the pipeline. Raises NotBuilt for a second device."""
        if self._pipeline is None:
            self._pipeline = Pipeline(device, self._make_stage)
        if self._pipeline.device != device:
            raise NotBuilt(
                f"gradients are on {self._pipeline.device} and on {device}; transport='c10d' reduces those"
                " of one device: use transport='native'"
            )
        return self._pipeline
