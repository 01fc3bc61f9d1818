"""What the engine knows of CUDA: streams of its own, what they are given, and what they wait for.

Nothing here waits on the host, but for `Stage.synchronize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from thinwire.ddp.c10d_wire import Work
from thinwire.ddp.on_device import on_stream

HIGH_PRIORITY = -1
"""Before the model's work, where both could run."""


class Stage:
    """A stream: what it is given is done in order, beside the work of other stages.

    Attributes:
        stream: in torch's form.
        work: working memory of the kernels launched here, (bytes,) uint8.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device, priority=HIGH_PRIORITY)  # type: ignore[no-untyped-call]
        self.work = torch.empty(0, dtype=torch.uint8, device=device)

    def launch(self, kernel: Callable[..., None], *arguments: Any, **more: Any) -> None:
        """Launch one of `_core.cuda_launch_*`, on the current device."""
        kernel(*arguments, work=self.work.data_ptr(), stream=self.stream.cuda_stream, **more)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call what uses torch's current stream, on this one."""
        with on_stream(self.stream):
            function(*arguments)

    def start(self, collective: Callable[..., Work], *arguments: Any) -> Work:
        """Start a collective behind what this stage was given."""
        with on_stream(self.stream):
            return collective(*arguments)

    def follow(self, work: Work) -> None:
        """Let what is given from now on wait for a collective."""
        self.run(work.wait)

    def follow_caller(self) -> None:
        """Let what is given from now on wait for what the caller's current stream was given."""
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))

    def mark(self) -> torch.cuda.Event:
        """Return an event behind what this stage was given."""
        event: torch.cuda.Event = self.stream.record_event()
        return event

    def wait(self, event: torch.cuda.Event) -> None:
        """Let what is given from now on wait for an event."""
        self.stream.wait_event(event)

    def synchronize(self) -> None:
        """Wait, on the host, for all that this stage was given."""
        self.stream.synchronize()
