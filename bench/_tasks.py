"""What the demo and `bench ddp` train: a model, its data and its loss, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from thinwire.bench._char_model import LARGE, SMALL, CharTransformer
from thinwire.bench._conv_model import DigitTask
from thinwire.bench._ddp_plan import DEMO_MODEL, GLOBAL_BATCH
from thinwire.bench._finetune_model import trained_model
from thinwire.bench._gru_model import CharGru
from thinwire.bench._language_task import LanguageTask
from thinwire.bench._text import Text, language_reference, standard_library


class Task(Protocol):
    """A model to train and what to train it on. Holds no state of a run.

    `rates` has the learning rate of each optimizer.
    """

    rates: Mapping[str, float]

    def model(self) -> nn.Module:
        """A model with the weights it begins with, which torch's global seed may decide."""

    def batch(self, generator: torch.Generator, rank: int, world_size: int) -> Any:
        """This rank's part of the next global batch, which all draw alike from generators of one seed."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss over a batch; a scalar."""

    def held_out_loss(self, model: nn.Module, rank: int, world_size: int) -> Tensor:
        """The mean loss over this rank's share of what no step trains on; a scalar."""

    def accuracy(self, model: nn.Module) -> float | None:
        """Right answers in percent on what no step trains on; None where the task is not to answer."""


@cache
def task(name: str) -> Task:
    """The task of that name (`demo`, or one of `_ddp_plan.MODELS`). Its data is read on the first call."""
    return _MAKERS[name]()


@cache
def _sources() -> Text:
    return Text(standard_library())


_MAKERS: dict[str, Callable[[], Task]] = {
    DEMO_MODEL: lambda: LanguageTask(partial(CharTransformer, LARGE), _sources(), 10, per_rank=True),
    "char": lambda: LanguageTask(partial(CharTransformer, SMALL), _sources(), GLOBAL_BATCH),
    "gru": lambda: LanguageTask(CharGru, _sources(), GLOBAL_BATCH),
    "conv": lambda: DigitTask(4 * GLOBAL_BATCH),
    "finetune": lambda: LanguageTask(trained_model, Text(language_reference()), GLOBAL_BATCH),
}
