"""The c10d transport: two private Gloo groups over the ranks of a process group, one for each phase.

They are made here, not by `dist.new_group`. A private group keeps this library's collectives out of the order
of everybody else's, needs no barrier with ranks outside a sub-group, and its sockets close when it is
dropped, so that a rank that gives up releases the others. (`new_group(use_local_synchronization=True)` names
a group after the number of groups a rank has made, which differs between ranks that are members of different
sub-groups, and a name that was used before finds dead addresses.)
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from thinwire.ddp.c10d_wire import C10dWire
from thinwire.ddp.meeting import Meeting
from thinwire.errors import PeerLost, Timeout, TransportError


class Wire(C10dWire):
    """What one rank needs to talk to the others. The constructor is collective.

    Args are those of `BaseWire`; `deadline`: seconds one collective may take.
    """

    def __init__(
        self, meeting: Meeting, description: dict[str, Any], timeout: float, deadline: float
    ) -> None:
        super().__init__(meeting, description, timeout, deadline)
        self._groups = [self._make_group(phase, timeout) for phase in ("1", "2")]
        # Who leaves early must not cut off a rank that is still connecting.
        self._meeting.exchange({}, "connected to the other ranks")
        self._closing: threading.Thread | None = None

    def close(self) -> None:
        """Close the connections as soon as what is under way has ended. Does not wait for that.

        Peers that wait for this rank then get PeerLost.
        """
        groups, self._groups = self._groups, []
        if groups:
            # The last reference to a group waits for its collectives, so another thread drops it.
            self._closing = threading.Thread(target=groups.clear, name="thinwire-close", daemon=True)
            self._closing.start()

    def wait_closed(self, seconds: float) -> None:
        """Wait at most `seconds` for what `close` began.

        Without that, Python could end meanwhile: it unwinds its threads then, which inside Gloo's destructors
        aborts the process.
        """
        if self._closing is not None:
            self._closing.join(seconds)

    def _make_group(self, phase: str, timeout: float) -> dist.ProcessGroupGloo:
        store = PrefixStore(phase, self._meeting.store)
        try:
            return dist.ProcessGroupGloo(store, self.rank, self.size, timedelta(seconds=timeout))
        except RuntimeError as error:
            raise self.translate(error) from error

    def _group(self, phase: int) -> Any:
        groups = self._groups
        if not groups:
            raise TransportError("the connections were closed")
        return groups[phase]

    def translate(self, error: RuntimeError) -> Timeout | TransportError:
        """Return the error of this library that says what Gloo said."""
        text = str(error).split("This is typically caused by")[0].strip()
        if "timed out" in text.lower() or "timeout" in text.lower():
            return Timeout(f"no answer within {self._deadline.total_seconds():g} s (option deadline): {text}")
        if self.size == 2:
            return PeerLost(f"rank {1 - self.rank} is lost: {text}", 1 - self.rank)
        return PeerLost(f"a rank is lost: {text}")
