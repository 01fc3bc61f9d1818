"""Data-parallel training over thin links: a communication hook for DistributedDataParallel.

    state = thinwire.ddp.attach(ddp, codec="int8")

or, in PyTorch's own form,

    state = thinwire.ddp.HookState(codec="int8", model=model)
    ddp.register_comm_hook(state, thinwire.ddp.comm_hook)
"""

from thinwire.ddp.attach import attach
from thinwire.ddp.group import communicator
from thinwire.ddp.hook import comm_hook
from thinwire.ddp.options import Options
from thinwire.ddp.report import Report
from thinwire.ddp.state import HookState

__all__ = ["HookState", "Options", "Report", "attach", "comm_hook", "communicator"]
