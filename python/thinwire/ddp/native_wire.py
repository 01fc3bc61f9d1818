"""The native transport: a communicator of the hook's own over the ranks of a process group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thinwire._comm import Communicator
from thinwire.ddp.base_wire import BaseWire
from thinwire.ddp.meeting import Meeting


class NativeWire(BaseWire):
    """What one rank needs to talk to the others. The constructor is collective.

    Args are those of `BaseWire`; `deadline`: seconds one collective may take; `network`: the communicator's
    options that say how ranks are connected. Attribute `communicator` carries everything.
    """

    def __init__(
        self,
        meeting: Meeting,
        description: dict[str, Any],
        timeout: float,
        deadline: float,
        network: Mapping[str, Any],
    ) -> None:
        super().__init__(meeting, description, timeout)
        self.communicator = Communicator(
            self._meeting.store,
            self.rank,
            self.size,
            timeout=timeout,
            deadline=deadline,
            group="hook",
            **network,
        )

    def close(self) -> None:
        """Close the connections. Peers that wait for this rank then get PeerLost."""
        self.communicator.close()

    def _gather_equal(self, data: bytes) -> list[bytes]:
        rows = self.communicator.all_gather(np.frombuffer(data, np.uint8)).wait()
        return [row.tobytes() for row in rows]
