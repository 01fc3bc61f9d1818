"""The native transport: a communicator of the hook's own over the ranks of a process group."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch.distributed as dist

from thinwire import _core
from thinwire._comm import Communicator
from thinwire._rendezvous import require_equal
from thinwire.ddp.meeting import Meeting
from thinwire.ddp.plan import canonical_json


class NativeWire:
    """What one rank needs to talk to the others. The constructor is collective.

    Args and attributes are those of `thinwire.ddp.wire.Wire`; `communicator` carries everything.
    """

    def __init__(
        self, process_group: dist.ProcessGroup, description: dict[str, Any], timeout: float, deadline: float
    ) -> None:
        self.rank, self.size = process_group.rank(), process_group.size()
        self._meeting = Meeting(process_group, timeout)
        answers = self._meeting.exchange({"description": description}, "made its HookState")
        require_equal("the hook's options", [answer["description"] for answer in answers])
        self.communicator = Communicator(
            self._meeting.store,
            self.rank,
            self.size,
            timeout=timeout,
            deadline=deadline,
            group="hook",
        )
        self.nonce = self.communicator.group_number

    def gather(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`, which may differ in length. Waits."""
        lengths = self.communicator.all_gather(np.array([len(data)], np.int64)).wait()[:, 0]
        padded = np.frombuffer(data.ljust(int(lengths.max()), b"\0"), np.uint8)
        rows = self.communicator.all_gather(padded).wait()
        return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]

    def agree(self, subject: str, description: dict[str, Any]) -> None:
        """Raise InvalidArgument on all ranks unless all came with the same description."""
        text = canonical_json(description)
        mine = np.array([_core.xxh3_64(text)], np.uint64)
        hashes = self.communicator.all_gather(mine).wait()
        if (hashes != mine).any():
            require_equal(subject, [json.loads(entry) for entry in self.gather(text)])

    def meet(self, answer: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return every rank's `answer`, over the store: for the main thread."""
        return self._meeting.exchange(answer, doing)

    def close(self) -> None:
        """Close the connections. Peers that wait for this rank then get PeerLost."""
        self.communicator.close()
