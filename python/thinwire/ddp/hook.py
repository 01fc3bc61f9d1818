"""The communication hook, and how its errors reach the caller of backward.

No `from __future__ import annotations` here: DDP compares the hook's annotations with the types themselves.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist

from thinwire.ddp.state import HookState
from thinwire.ddp.stepper import Stepper


def comm_hook(
    state: HookState,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[torch.Tensor]:
    """Average a bucket of gradients over the ranks, compressed: `ddp.register_comm_hook(state, comm_hook)`.

    Returns at once. The future holds the bucket's own buffer, a tensor (n,) of its own dtype. What goes wrong
    in a step is raised by `backward()` after DDP has finished with the step, with its own type; DDP can be
    used again.
    """
    stepper = state.stepper
    if stepper.has_pending_error and not _call_after_backward(lambda: None):
        stepper.raise_pending()
    future = stepper.take(bucket)
    if bucket.is_last():
        _end_after_reducer(stepper)
    return future


def _end_after_reducer(stepper: Stepper) -> None:
    """End the step, and raise its error, when DDP's reducer has finalised this backward.

    The reducer queues its own callback right after this call; a callback queued by ours therefore runs after
    it. Raised in the hook, an error would leave the reducer unusable; set on the future, it would lose its
    type. Outside backward (a rank that has joined) there is nobody to raise to: the error waits for the next
    call of the hook, or of report() or close().
    """

    def at_end_of_backward() -> None:
        stepper.backward_ended()
        _call_after_backward(stepper.end)

    _call_after_backward(at_end_of_backward)


def _call_after_backward(callback: Callable[[], None]) -> bool:
    """Have autograd call `callback` when this backward is over. Returns False outside backward."""
    try:
        torch.autograd.Variable._execution_engine.queue_callback(callback)
    except RuntimeError:
        return False
    return True
