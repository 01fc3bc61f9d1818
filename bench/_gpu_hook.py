"""`thinwire bench gpu`: what the hook costs a training step where there is nobody to talk to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thinwire.bench import _gpu_device
from thinwire.bench._cases import MILLISECONDS, Case, LeftOut, Measured
from thinwire.bench._gpu_device import Effort, torch_and_kernels
from thinwire.errors import NotBuilt

CODEC = "int8"
LAYERS, WIDTH, HEADS = 8, 1024, 16  # 100.8 million parameters
BATCH, LENGTH = 32, 512


def cases() -> list[Case]:
    """The row."""
    return [Case(f"step of 100 M parameters, {CODEC}, world size 1", "no hook", 1.03, _steps, at_most=True)]


def _steps(effort: Effort) -> Measured:
    torch = torch_and_kernels()
    with one_rank(torch):
        plain, hooked = Training(torch), Training(torch)
        hooked.attach()
        rounds = range(effort.rounds + 1)
        pairs = [(hooked.seconds(effort.steps), plain.seconds(effort.steps)) for _ in rounds][1:]
        hooked.check()
    return Measured([own for own, _ in pairs], [base for _, base in pairs], plain=MILLISECONDS)


@contextmanager
def one_rank(torch: Any) -> Iterator[None]:
    """A process group of this process alone."""
    distributed = torch.distributed
    backend = "cpu:gloo,cuda:nccl" if distributed.is_nccl_available() else "gloo"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Training:
    """A transformer under DDP on the GPU, in bfloat16 by autocast."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        model = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).to(_gpu_device.DEVICE)
        self._ddp = torch.nn.parallel.DistributedDataParallel(model)
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        self._batch = torch.randn(BATCH, LENGTH, WIDTH, device=_gpu_device.DEVICE)

    def attach(self) -> None:
        """Run everything that the hook does with peers. Raises LeftOut where this release cannot."""
        import thinwire as tw

        try:
            self._state = tw.ddp.attach(self._ddp, codec=CODEC, force=True)
        except NotBuilt as error:
            raise LeftOut(str(error)) from error

    def check(self) -> None:
        """Raise RuntimeError where the hook has not encoded anything: its time would mean nothing."""
        report = self._state.report().as_dict()
        if not (report["steps"] and report["residual_bytes"]):
            raise RuntimeError("the hook took part in no step")

    def seconds(self, steps: int) -> float:
        """Seconds of a step."""
        self._torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(steps):
            self._step()
        self._torch.cuda.synchronize()
        return (time.perf_counter() - begin) / steps

    def _step(self) -> None:
        with self._torch.autocast(_gpu_device.DEVICE, dtype=self._torch.bfloat16):
            loss = self._ddp(self._batch).square().mean()
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
