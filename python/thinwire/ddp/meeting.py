"""Small messages between ranks over a process group's store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, _get_process_group_store

from thinwire.ddp.plan import canonical_json
from thinwire.errors import InvalidArgument, Timeout, TransportError

_FAILURE = "failure"
"""The key of a message that is none: why its rank does not come."""


class Meeting:
    """Exchanges small messages over a process group's store.

    Every HookState of a group has its own stretch of the store, numbered by how many the rank has begun to
    make: so a meeting is made before anything that may fail on one rank alone. After a Timeout ranks are no
    longer sure to be in the same round, so this one takes part in none.

    Attributes:
        process_group: the group, and this rank's place in it: `rank`, `size`.
        timeout: seconds that an exchange waits for the other ranks.
        store: its stretch of the store.
    """

    def __init__(self, process_group: dist.ProcessGroup, timeout: float = 30.0) -> None:
        self.process_group, self.timeout = process_group, timeout
        self.rank, self.size = process_group.rank(), process_group.size()
        base = PrefixStore("thinwire", _get_process_group_store(process_group))
        number = base.add(f"made/{self.rank}", 1)
        self.store = PrefixStore(str(number), base)
        self._round = 0
        self._missed: str | None = None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the others what goes wrong on this rank in a `with` block before the first exchange."""
        try:
            yield
        except Exception as error:
            with suppress(RuntimeError):  # of the store
                self.store.set(self._key(1, self.rank), canonical_json({_FAILURE: str(error)}).decode())
            raise

    def exchange(self, message: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return the messages of all ranks in order. Collective.

        Raises Timeout naming who did not come, then TransportError each time; InvalidArgument for what a rank
        has told.
        """
        if self._missed is not None:
            raise TransportError(
                f"the ranks have lost each other ({self._missed}); make a new HookState on all"
            )
        self._round += 1
        keys = [self._key(self._round, rank) for rank in range(self.size)]
        try:
            self.store.set(keys[self.rank], canonical_json(message).decode())
            self._wait(keys, doing)
            answers = [json.loads(self.store.get(key)) for key in keys]
        except RuntimeError as error:
            raise TransportError(f"the process group's store does not answer: {error}") from error
        for rank, answer in enumerate(answers):
            if set(answer) == {_FAILURE}:
                raise InvalidArgument(f"rank {rank} has not {doing}: {answer[_FAILURE]}")
        return answers

    @staticmethod
    def _key(number: int, rank: int) -> str:
        return f"round/{number}/{rank}"

    def _wait(self, keys: Sequence[str], doing: str) -> None:
        try:
            self.store.wait(list(keys), timedelta(seconds=self.timeout))
        except RuntimeError as error:
            late = [str(rank) for rank, key in enumerate(keys) if not self.store.check([key])]
            if not late:
                raise
            ranks = f"rank {late[0]} has" if len(late) == 1 else f"ranks {', '.join(late)} have"
            self._missed = f"{ranks} not {doing} within {self.timeout:g} s (option timeout)"
            raise Timeout(self._missed) from error
