"""Several ranks, one step: every other rank commits its part under a name of its own, then rank 0 the step.

Ranks meet in the store alone: there is no collective in the background, and a rank that died is merely a
part that never comes. Parts say which save of which start of the job they belong to, so that what a crashed
job left is not mistaken for this one's.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from thinwire.errors import InvalidArgument, NotFound, Timeout
from thinwire.store.checkpoint.steps import KIND, PART_KIND, Steps
from thinwire.store.refs import Ref
from thinwire.store.store import Store

_LEAST_WAIT_S, _MOST_WAIT_S = 0.005, 0.5


class Ranks(NamedTuple):
    """Who saves together. `session` is the same on all ranks, and new with every start of the job."""

    rank: int = 0
    world_size: int = 1
    session: str = ""

    def check(self) -> None:
        """Raise InvalidArgument where they cannot work."""
        if not 0 <= self.rank < self.world_size:
            raise InvalidArgument(f"rank is {self.rank}, world_size {self.world_size}")
        if self.world_size > 1 and not self.session:
            raise InvalidArgument(
                "several ranks need a session, a text that is new with every start of the job and the same "
                "on all ranks; pass session=, or process_group= to have one made"
            )


def of_group(group: Any) -> Ranks:
    """The ranks of a torch.distributed group. Collective."""
    import secrets

    import torch.distributed as dist

    token = [secrets.token_hex(8)]
    dist.broadcast_object_list(token, src=dist.get_global_rank(group, 0), group=group)
    return Ranks(dist.get_rank(group), dist.get_world_size(group), token[0])


class Meeting:
    """One save of all ranks: in this session, the `attempt`th of this step."""

    def __init__(
        self, store: Store, steps: Steps, ranks: Ranks, step: int, attempt: int, timeout: float
    ) -> None:
        self._store, self._steps, self._ranks, self._timeout = store, steps, ranks, timeout
        self._save = [ranks.session, step, attempt, ranks.world_size]

    def said(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"save": self._save} if self._ranks.world_size > 1 else {}

    def part_name(self, rank: int) -> str:
        """The name that a rank's parts are versions of."""
        return f"{self._steps.name}/rank{rank}"

    def gather_parts(self) -> dict[str, Any]:
        """On rank 0: wait until all other ranks' parts are durable; the metadata that names them."""
        found = [
            self._wait(self.part_name(rank), PART_KIND, f"rank {rank} has not stored its part")
            for rank in range(1, self._ranks.world_size)
        ]
        return {"parts": [f"{ref.name}@{ref.version}" for ref in found]}

    def await_step(self) -> Ref:
        """On the other ranks: wait until rank 0 has made the step durable."""
        return self._wait(self._steps.name, KIND, "rank 0 has not committed the step")

    def _wait(self, name: str, kind: str, late: str) -> Ref:
        deadline = time.monotonic() + self._timeout
        pause = _LEAST_WAIT_S
        while (ref := self._look(name, kind)) is None:
            if time.monotonic() > deadline:
                raise Timeout(f"{late} of {name} after {self._timeout:g} s; the last step stays the latest")
            time.sleep(pause)
            pause = min(2 * pause, _MOST_WAIT_S)
        return ref

    def _look(self, name: str, kind: str) -> Ref | None:
        try:
            ref = self._store.refs.resolve(name)
        except NotFound:
            return None
        said = self._steps.said(ref)
        return ref if said["kind"] == kind and said["save"] == self._save else None
