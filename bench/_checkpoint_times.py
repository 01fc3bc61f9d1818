"""Times of saving a state, beside torch.save in the same round."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import torch

from thinwire._durable import sync_file
from thinwire.bench._cases import seconds
from thinwire.store.checkpoint import Checkpointer
from thinwire.store.checkpoint.layout import BLOCK_BYTES

TORCH_FILE, STORE = "torch", "store"
"""What `measure` leaves in its folder: the state as torch.save and as a Checkpointer wrote it."""

_TENSORS = 25
_SMALL = 50  # tensors of a few hundred bytes, as biases are
_CHANGED_SHARE = 0.01


class Times(NamedTuple):
    """Seconds of one round; of the blocking part of an async save where the state had wholly changed."""

    torch_save: float
    first: float
    blocking_part: float
    unchanged: float
    changed: float


def random_state(size: int) -> dict[str, torch.Tensor]:
    """Random float32 tensors of about `size` bytes together."""
    state = {f"layer{i}.weight": torch.randn(size // _TENSORS // 4) for i in range(_TENSORS)}
    return state | {f"layer{i}.bias": torch.randn(100) for i in range(_SMALL)}


def torch_save(state: dict[str, torch.Tensor], path: Path) -> float:
    """Seconds that torch.save takes until the file is durable."""
    begin = time.perf_counter()
    with path.open("wb") as file:
        torch.save(state, file)
        sync_file(file)
    return time.perf_counter() - begin


def measure(folder: Path, size: int) -> Times:
    """The times of one round with a state of `size` bytes, in a folder that is empty."""
    state = random_state(size)
    save_s = torch_save(state, folder / TORCH_FILE)
    with Checkpointer(folder / STORE) as saver:
        first_s = seconds(lambda: saver.save(state, 0))
        unchanged_s = seconds(lambda: saver.save(state, 1))
        _change(state, _CHANGED_SHARE)
        changed_s = seconds(lambda: saver.save(state, 2))
        for step in (3, 4):  # the first async save makes the staging buffer
            for tensor in state.values():
                tensor.neg_()
            begin = time.perf_counter()
            saving = saver.save(state, step, blocking=False)
            blocking_s = time.perf_counter() - begin
            saving.wait_durable()
    return Times(save_s, first_s, blocking_s, unchanged_s, changed_s)


def _change(state: dict[str, torch.Tensor], share: float) -> None:
    """Change one value in this share of all blocks."""
    large = [tensor for tensor in state.values() if tensor.nbytes >= BLOCK_BYTES]
    blocks = [(tensor, at) for tensor in large for at in range(0, tensor.numel(), BLOCK_BYTES // 4)]
    for i in torch.randperm(len(blocks))[: max(1, int(len(blocks) * share))].tolist():
        tensor, at = blocks[i]
        tensor[at] += 1
