"""Training a model to predict the next character of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinwire.bench._text import Text, windows

CONTEXT = 64
"""Characters a window holds, besides the one that follows."""
_EVALUATION_WINDOWS = 256
_EVALUATION_BATCH = 16


class LanguageTask:
    """See `_tasks.Task`."""

    rates: Mapping[str, float] = {"adamw": 1e-3, "sgd": 0.1}

    def __init__(self, make_model: Callable[[], nn.Module], text: Text, batch: int, per_rank: bool = False):
        """A global batch has `batch` windows, or with `per_rank` each rank's part of it has."""
        self._make_model, self._text = make_model, text
        self._batch, self._per_rank = batch, per_rank

    def model(self) -> nn.Module:
        return self._make_model()

    def batch(self, generator: torch.Generator, rank: int, world_size: int) -> Tensor:
        """This rank's part of the random windows of a global batch, int64 [n, CONTEXT + 1]."""
        count = self._batch * (world_size if self._per_rank else 1)
        starts = torch.randint(len(self._text.training) - CONTEXT, (count,), generator=generator)
        return windows(self._text.training, starts[rank::world_size].tolist(), CONTEXT + 1)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean cross-entropy in nats a character."""
        logits = model(batch[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def held_out_loss(self, model: nn.Module, rank: int, world_size: int) -> Tensor:
        """Mean loss over this rank's share of fixed windows that no step trains on; a scalar."""
        codes = self._text.held_out
        starts = torch.linspace(0, len(codes) - CONTEXT - 1, _EVALUATION_WINDOWS).long()[rank::world_size]
        with torch.no_grad():
            losses = [
                self.loss(model, windows(codes, share.tolist(), CONTEXT + 1)) * len(share)
                for share in torch.split(starts, _EVALUATION_BATCH)
            ]
        return torch.stack(losses).sum() / len(starts)

    def accuracy(self, model: nn.Module) -> float | None:
        """None: of a language model the loss says all."""
        return None
