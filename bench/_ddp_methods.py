"""The ways to train data-parallel that the demo and `bench ddp` compare, by name.

- `torch/plain`: DistributedDataParallel as it comes
- `torch/fp16`: with PyTorch's fp16_compress_hook
- `torch/powersgdR`: with PyTorch's PowerSGD hook of rank R, the first two steps plain (`:start=K`: K steps)
- `thinwire/CODEC`: with thinwire's hook, CODEC as in `tw.codec`: int8, int4, topk:density=0.01; options of
  `tw.ddp.HookState` may follow: `thinwire/sign1;basis=0;warmup=10`
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

from thinwire.bench._ddp_plan import POWERSGD, Job, check_method, hook_options

Report = Callable[[], dict[str, Any] | None]
"""Says, after training, what the hook knows about itself."""

ONE_BUCKET_MB = 1000
"""PowerSGD raises on Gloo with more than one bucket; this cap is above the size of any demo model."""


def wrap(job: Job, model: nn.Module) -> tuple[nn.Module, Report]:
    """`model` made ready for the job's method, and the hook's report. Collective; ValueError for no method.

    PowerSGD takes one bucket, whatever the job says.
    """
    method, bucket_mb = job.method, job.bucket_mb
    check_method(method)
    if method == "none":
        return model, _no_report
    family, _, name = method.partition("/")
    powersgd = POWERSGD.fullmatch(name)
    if powersgd:
        return _with_powersgd(model, int(powersgd[1]), int(powersgd[2] or 2)), _no_report
    ddp = DistributedDataParallel(model, bucket_cap_mb=bucket_mb)
    if family in ("thinwire", "c10d"):
        return ddp, _use_thinwire(ddp, job)
    if name == "fp16":
        ddp.register_comm_hook(dist.group.WORLD, default_hooks.fp16_compress_hook)
    return ddp, _no_report


def _no_report() -> None:
    return None


def _with_powersgd(model: nn.Module, rank: int, start: int) -> nn.Module:
    ddp = DistributedDataParallel(model, bucket_cap_mb=ONE_BUCKET_MB)
    state = powerSGD_hook.PowerSGDState(
        process_group=None, matrix_approximation_rank=rank, start_powerSGD_iter=start
    )
    ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return ddp


def _use_thinwire(ddp: DistributedDataParallel, job: Job) -> Report:
    import thinwire as tw

    family, _, name = job.method.partition("/")
    codec, options = hook_options(name)
    state = tw.ddp.attach(ddp, codec, **{"warmup": job.codec_warmup} | _links(family, job) | options)
    return lambda: state.report().as_dict()


def _links(family: str, job: Job) -> dict[str, Any]:
    """What carries the hook's bytes: Gloo, or thinwire's own links.

    These would be shared memory between ranks that share a network, where nobody counts or paces the bytes.
    """
    if family == "c10d":
        return {"transport": "c10d"}
    return {"network": {"links": "tcp"}} if job.link_kind in ("loopback", "pacing") else {}
