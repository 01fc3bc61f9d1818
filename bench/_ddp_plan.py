"""What a training run is asked for, shared by the process that asks and the ranks that train. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

POWERSGD = re.compile(r"powersgd(\d+)(?::start=(\d+))?")
"""A PowerSGD method's name: its rank, and the step at which it begins."""

MODEL_BYTES = 13_000_000
"""About the gradient of the demo's model in fp32; it only scales time limits."""


@dataclass(frozen=True)
class Job:
    """One training run.

    Either `steps` or `budget_s` is given and says when the run ends; `warmup` steps of the same training come
    before and are not counted. `bucket_mb` None is DDP's default. `codec_warmup` None is thinwire's default:
    the int4 steps with which sparse codecs begin. The loss on held-out text is taken at the start, every
    `evaluate_every_s` seconds or so, and at the end, while the clock stands still; never if that is None. A
    collective that takes `timeout_s` seconds fails.
    """

    number: int
    method: str
    link_kind: str
    rate_bits: int
    steps: int | None = None
    budget_s: float | None = None
    warmup: int = 3
    seed: int = 0
    bucket_mb: float | None = None
    codec_warmup: int | None = None
    evaluate_every_s: float | None = None

    @property
    def timeout_s(self) -> float:
        """A minute, and twenty plain all-reduces of the model at the link's rate."""
        return 60.0 + (20 * 8 * MODEL_BYTES / self.rate_bits if self.rate_bits else 0.0)


def label(method: str) -> str:
    """How tables and charts name a method: `torch/fp16` is `DDP, fp16 hook`."""
    family, _, name = method.partition("/")
    if method == "none":
        return "computation alone"
    if family == "thinwire":
        return f"thinwire {name}"
    if name == "fp16":
        return "DDP, fp16 hook"
    powersgd = POWERSGD.fullmatch(name)
    if powersgd is None:
        return f"DDP, {name}"
    return f"DDP, PowerSGD rank {powersgd[1]}" + (f" from step {powersgd[2]}" if powersgd[2] else "")
