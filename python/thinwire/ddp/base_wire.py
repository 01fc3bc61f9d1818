"""What the wires of both transports have in common: ranks meet, gather bytes, find out if they agree."""

from __future__ import annotations

import json
import secrets
from typing import Any

from thinwire import _core
from thinwire._rendezvous import require_equal
from thinwire.ddp.meeting import Meeting
from thinwire.ddp.plan import canonical_json

_NUMBER_BYTES = 8
"""Of a length and of a hash."""


class BaseWire:
    """What one rank needs to talk to the others. The constructor is collective.

    Args:
        meeting: of the ranks; its process group is not communicated over.
        description: plain values that must be equal on all ranks; see `agree`.
        timeout: seconds the constructor waits for the other ranks.

    Attributes `rank` and `size` are those of `meeting`; `nonce` is a random number all ranks share.
    Raises InvalidArgument on all ranks if descriptions differ, Timeout naming the ranks that did not come.
    """

    def __init__(self, meeting: Meeting, description: dict[str, Any], timeout: float) -> None:
        self.rank, self.size = meeting.rank, meeting.size
        self._meeting = meeting
        meeting.timeout = timeout
        hello = {"nonce": secrets.randbits(63), "description": description}
        answers = self._meeting.exchange(hello, "made its HookState")
        require_equal("the hook's options", [answer["description"] for answer in answers])
        self.nonce: int = answers[0]["nonce"]

    def gather(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`, which may differ in length. Waits; in c10d, in order with phase 1."""
        lengths = [int.from_bytes(number, "little") for number in self._gather_equal(_number(len(data)))]
        padded = self._gather_equal(data.ljust(max(lengths), b"\0"))
        return [entry[:length] for entry, length in zip(padded, lengths, strict=True)]

    def agree(self, subject: str, description: dict[str, Any]) -> None:
        """Raise InvalidArgument on all ranks unless all came with the same description. As `gather`.

        Costs eight bytes a rank if they did; if not, the descriptions cross too, so that the message can name
        the first difference.
        """
        text = canonical_json(description)
        if len(set(self._gather_equal(_number(_core.xxh3_64(text))))) > 1:
            require_equal(subject, [json.loads(entry) for entry in self.gather(text)])

    def meet(self, answer: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return every rank's `answer`, over the store: for the main thread, the links being the engine's.

        `doing` completes "rank 1 has not ..." for the Timeout that is raised where a rank does not come.
        """
        return self._meeting.exchange(answer, doing)

    def close(self) -> None:
        """Close the connections. Peers that wait for this rank then get PeerLost."""
        raise NotImplementedError

    def _gather_equal(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`, all of one length."""
        raise NotImplementedError


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_BYTES, "little")
