"""A communicator over the ranks of a torch process group."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from thinwire._comm import Communicator
from thinwire.ddp.meeting import Meeting
from thinwire.errors import InvalidArgument


def communicator(
    process_group: dist.ProcessGroup | None = None, timeout: float = 30.0, **options: Any
) -> Communicator:
    """Return a `thinwire.Communicator` over the ranks of a process group, which meet in its store.

    Collective. `process_group`: None for the default group. The other arguments are the communicator's. The
    process group is not communicated over, and both can be used side by side.
    """
    group = member_of(process_group)
    meeting = Meeting(group, timeout)
    return Communicator(
        meeting.store, group.rank(), group.size(), timeout=timeout, group="communicator", **options
    )


def member_of(process_group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """Return the group, the default one for None. Raises InvalidArgument where this rank is in none."""
    if not dist.is_available() or not dist.is_initialized():
        raise InvalidArgument("torch.distributed is not initialised; call init_process_group first")
    group = dist.group.WORLD if process_group is None else process_group
    if not isinstance(group, dist.ProcessGroup):
        raise InvalidArgument("this rank is not a member of the process group")
    return group
