"""The ways to train data-parallel that the demo and `bench ddp` compare, by name.

- `torch/plain`: DistributedDataParallel as it comes
- `torch/fp16`: with PyTorch's fp16_compress_hook
- `torch/powersgdR`: with PyTorch's PowerSGD hook of rank R, the first two steps plain (`:start=K`: K steps)
- `thinwire/CODEC`: with thinwire's hook, CODEC as in `tw.codec`: int8, int4, topk:density=0.01
- `c10d/CODEC`: the same over Gloo instead of thinwire's own links
- `none`: no communication, for the time that the computation alone takes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from thinwire.bench._ddp_plan import POWERSGD, Job

Report = Callable[[], dict[str, Any] | None]
"""Says, after training, what the hook knows about itself."""

ONE_BUCKET_MB = 1000
"""PowerSGD raises on Gloo with more than one bucket; this cap is above the size of any demo model."""


def wrap(job: Job, model: nn.Module) -> tuple[nn.Module, Report]:
    """`model` made ready for the job's method, and the hook's report. Collective; ValueError for no method.

    PowerSGD takes one bucket, whatever the job says.
    """
    method, bucket_mb = job.method, job.bucket_mb
    if method == "none":
        return model, _no_report
    family, _, name = method.partition("/")
    powersgd = POWERSGD.fullmatch(name)
    if family == "torch" and powersgd:
        return _with_powersgd(model, int(powersgd[1]), int(powersgd[2] or 2)), _no_report
    if family == "torch" and name in ("plain", "fp16"):
        ddp = DistributedDataParallel(model, bucket_cap_mb=bucket_mb)
        if name == "fp16":
            ddp.register_comm_hook(dist.group.WORLD, default_hooks.fp16_compress_hook)
        return ddp, _no_report
    if family in ("thinwire", "c10d"):
        ddp = DistributedDataParallel(model, bucket_cap_mb=bucket_mb)
        transport = "c10d" if family == "c10d" else "auto"
        return _with_thinwire(ddp, name, transport, job.codec_warmup)
    raise ValueError(f"unknown method '{method}': see the head of thinwire/bench/_ddp_methods.py")


def _no_report() -> None:
    return None


def _with_powersgd(model: nn.Module, rank: int, start: int) -> nn.Module:
    ddp = DistributedDataParallel(model, bucket_cap_mb=ONE_BUCKET_MB)
    state = powerSGD_hook.PowerSGDState(
        process_group=None, matrix_approximation_rank=rank, start_powerSGD_iter=start
    )
    ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return ddp


def _with_thinwire(
    ddp: DistributedDataParallel, codec: str, transport: str, warmup: int | None
) -> tuple[nn.Module, Report]:
    import thinwire as tw

    state = tw.ddp.attach(ddp, codec=codec, transport=transport, warmup=warmup)
    return ddp, lambda: state.report().as_dict()
