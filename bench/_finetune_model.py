"""A transformer that has learnt Python sources, to be fine-tuned on prose."""

from __future__ import annotations

import contextlib
import os
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from thinwire.bench._char_model import SMALL, CharTransformer
from thinwire.bench._language_task import LanguageTask
from thinwire.bench._text import Text, standard_library

_STEPS, _BATCH = 400, 16


def trained_model() -> nn.Module:
    """A model that was trained on the standard library; the same weights on every rank and in every run.

    The first call on a machine trains it, for about half a minute, and leaves them in the user's cache.
    """
    model = CharTransformer(SMALL)
    model.load_state_dict(_weights())
    return model


@cache
def _weights() -> dict[str, Tensor]:
    path = _cache_file()
    if path.exists():
        known: dict[str, Tensor] = torch.load(path, weights_only=True)
        return known
    weights = _train()
    with contextlib.suppress(OSError):  # without a cache other processes train the same weights again
        _save(weights, path)
    return weights


def _train() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CharTransformer(SMALL)
    task = LanguageTask(lambda: model, Text(standard_library()), _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.rates["adamw"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        task.loss(model, task.batch(generator, 0, 1)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.state_dict()


def _save(weights: dict[str, Tensor], path: Path) -> None:
    """The file appears whole, whatever other ranks do at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    torch.save(weights, partial)
    partial.replace(path)


def _cache_file() -> Path:
    """Named by what the weights depend on."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thinwire"
    versions = f"python{platform.python_version()}-torch{torch.__version__}"
    size = f"{SMALL.width}x{SMALL.layers}"
    return folder / f"bench-char-{size}-{_STEPS}steps-{versions}.pt"
