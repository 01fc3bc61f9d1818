"""A communicator over the ranks of a torch process group."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import nn

from thinwire._comm import Communicator
from thinwire.ddp.meeting import Meeting
from thinwire.ddp.model import named_parameters
from thinwire.errors import InvalidArgument, NotBuilt


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


def c10d_device_type(process_group: dist.ProcessGroup, model: nn.Module | None) -> str:
    """Return the kind of device whose gradients travel over the group: that of the model's parameters.

    Without a model, it is what the group serves: "cuda" where it is NCCL's alone. Raises NotBuilt for a model
    on CUDA devices whose group has no NCCL.
    """
    if model is None:
        return "cuda" if str(dist.get_backend(process_group)) == "nccl" else "cpu"
    if not any(parameter.is_cuda for parameter in named_parameters(model).values()):
        return "cpu"
    if "cuda:nccl" not in dist.get_backend_config(process_group):
        raise NotBuilt(
            "transport='c10d' takes gradients on a CUDA device over NCCL, which this process group has not:"
            " use init_process_group('nccl'), or transport='native'"
        )
    return "cuda"
