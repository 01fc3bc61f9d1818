"""Small messages between ranks over a process group's store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, _get_process_group_store

from thinwire.ddp.plan import canonical_json
from thinwire.errors import Timeout, TransportError


class Meeting:
    """Exchanges small messages over a process group's store, each within `timeout` seconds.

    Every HookState of a group has its own stretch of the store, numbered by how many the rank has made. After
    a Timeout ranks are no longer sure to be in the same round, so this one takes part in none.
    """

    def __init__(self, process_group: dist.ProcessGroup, timeout: float) -> None:
        self._rank, self._size, self._timeout = process_group.rank(), process_group.size(), timeout
        base = PrefixStore("thinwire", _get_process_group_store(process_group))
        number = base.add(f"made/{self._rank}", 1)
        self.store = PrefixStore(str(number), base)
        self._round = 0
        self._missed: str | None = None

    def exchange(self, message: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return the messages of all ranks in order. Collective.

        Raises Timeout naming who did not come, then TransportError each time.
        """
        if self._missed is not None:
            raise TransportError(
                f"the ranks have lost each other ({self._missed}); make a new HookState on all"
            )
        self._round += 1
        keys = [f"round/{self._round}/{rank}" for rank in range(self._size)]
        try:
            self.store.set(keys[self._rank], canonical_json(message).decode())
            self._wait(keys, doing)
            return [json.loads(self.store.get(key)) for key in keys]
        except RuntimeError as error:
            raise TransportError(f"the process group's store does not answer: {error}") from error

    def _wait(self, keys: Sequence[str], doing: str) -> None:
        try:
            self.store.wait(list(keys), timedelta(seconds=self._timeout))
        except RuntimeError as error:
            late = [str(rank) for rank, key in enumerate(keys) if not self.store.check([key])]
            if not late:
                raise
            ranks = f"rank {late[0]} has" if len(late) == 1 else f"ranks {', '.join(late)} have"
            self._missed = f"{ranks} not {doing} within {self._timeout:g} s (option timeout)"
            raise Timeout(self._missed) from error
