"""What a training run is asked for, shared by the process that asks and the ranks that train. No torch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

DEMO_MODEL = "demo"
MODELS = ("char", "gru", "conv", "finetune")
"""What `bench ddp --equal-steps` trains."""
GLOBAL_BATCH = 16
"""Windows that all ranks together take in a step of a language model; four times as many images."""
OPTIMIZERS = ("adamw", "sgd")

POWERSGD = re.compile(r"powersgd(\d+)(?::start=(\d+))?")
"""A PowerSGD method's name: its rank, and the step at which it begins."""
PLAIN = "torch/plain"

MODEL_BYTES = 13_000_000
"""About the gradient of the demo's model in fp32; it only scales time limits."""


@dataclass(frozen=True)
class Job:
    """One training run.

    Either `steps` or `budget_s` is given and says when the run ends; `warmup` steps of the same training come
    before and are not counted. `model` is a name of `_tasks.task`. The learning rate is constant, or with
    `decay` follows a cosine down to a tenth over `steps`. `bucket_mb` None is DDP's default. `codec_warmup`
    None is thinwire's default: the int4 steps with which coarse codecs begin. The held-out loss is taken at
    the start, every `evaluate_every_s` seconds or so, and at the end, while the clock stands still; never if
    that is None. A collective that takes `timeout_s` seconds fails.
    """

    number: int
    method: str
    link_kind: str
    rate_bits: int
    model: str = DEMO_MODEL
    optimizer: str = "adamw"
    decay: bool = False
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


def check_method(method: str) -> None:
    """Raise ValueError for a name that no method has. Whether a codec exists is for thinwire to say."""
    family, _, name = method.partition("/")
    if family in ("thinwire", "c10d") and name:
        hook_options(name)
        return
    is_torch = family == "torch" and (name in ("plain", "fp16") or POWERSGD.fullmatch(name))
    if not (is_torch or method == "none"):
        raise ValueError(
            f"unknown method '{method}': there are torch/plain, torch/fp16, torch/powersgdRANK[:start=STEP],"
            " thinwire/CODEC[;OPTION=VALUE...] and c10d/CODEC[;OPTION=VALUE...]"
        )


def hook_options(name: str) -> tuple[str, dict[str, Any]]:
    """The codec and the hook's options of `sign1;basis=0;warmup=10`; ValueError for another form."""
    codec, *parts = name.split(";")
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise ValueError(
                f"'{part}' in '{name}' is no option of the hook; write NAME=VALUE, as in basis=0"
            )
        options[key] = _value(value)
    return codec, options


def _value(text: str) -> Any:
    """A Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def label(method: str) -> str:
    """How tables and charts name a method: `torch/fp16` is `DDP, fp16 hook`."""
    family, _, name = method.partition("/")
    if method == "none":
        return "computation alone"
    if family == "thinwire":
        return f"thinwire {name.replace(';', ', ')}"
    if name == "fp16":
        return "DDP, fp16 hook"
    powersgd = POWERSGD.fullmatch(name)
    if powersgd is None:
        return f"DDP, {name}"
    return f"DDP, PowerSGD rank {powersgd[1]}" + (f" from step {powersgd[2]}" if powersgd[2] else "")
