"""The one line: `thinwire.ddp.attach(ddp, codec="int8")`."""

from __future__ import annotations

import weakref
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from thinwire.ddp.hook import comm_hook
from thinwire.ddp.state import HookState
from thinwire.errors import InvalidArgument


def attach(ddp: DistributedDataParallel, codec: str = "int8", **options: Any) -> HookState:
    """Compress the gradients of a DistributedDataParallel model from now on. Collective over its group.

    Args:
        ddp: the wrapped model, before its first backward.
        codec: see `thinwire.codecs()`.
        **options: `scaler`, `network` and `transport` of HookState, and those of `thinwire.ddp.Options`.

    Returns the state: for `report()`, `state_dict()`, `set_weight()`. It lives as long as `ddp`.
    Raises InvalidArgument where DDP or the model would not allow it, NotBuilt for parameters on a device that
    is not served (see docs/limits.md), and as HookState does.
    """
    if not isinstance(ddp, DistributedDataParallel):
        raise InvalidArgument(f"attach takes a DistributedDataParallel model, not {type(ddp).__name__}")
    if ddp._comm_hooks:
        raise InvalidArgument(
            "this DDP model has a communication hook; DDP takes one only, so wrap the model anew"
        )
    if ddp.mixed_precision is not None:
        raise InvalidArgument("DDP(mixed_precision=...) brings its own hook; use torch.autocast instead")
    state = HookState(codec, model=ddp, process_group=ddp.process_group, **options)
    ddp.register_comm_hook(state, comm_hook)
    state.stepper.ddp = weakref.ref(ddp)
    return state
