"""Times of saving and loading a state, beside torch.save and torch.load in the same run.

Every figure is a ratio to torch's own time in the same round; what is reported is the median of the rounds.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from thinwire.store.checkpoint import Checkpointer
from thinwire.store.checkpoint.layout import BLOCK_BYTES

ROUNDS = 5
STATE_BYTES = 400_000_000
_TENSORS = 25
_SMALL = 50  # tensors of a few hundred bytes, as biases are
_CHANGED_SHARE = 0.01


class Times(NamedTuple):
    """Seconds of one round; of the blocking part of an async save where the state had wholly changed.

    `load` makes new tensors, as torch.load does; `fill` puts the state into those that are there.
    """

    torch_save: float
    torch_load: float
    first: float
    blocking_part: float
    unchanged: float
    changed: float
    load: float
    fill: float

    def ratios(self) -> dict[str, float]:
        """What the figures to reach are given in; above 1 the store is faster, but for the blocking part."""
        return {
            "first save": self.torch_save / self.first,
            "blocking part of an async save / torch.save": self.blocking_part / self.torch_save,
            "save unchanged": self.torch_save / self.unchanged,
            "save 1 % changed": self.torch_save / self.changed,
            "load": self.torch_load / self.load,
            "load into given tensors": self.torch_load / self.fill,
        }


def random_state(size: int = STATE_BYTES) -> dict[str, torch.Tensor]:
    """Random float32 tensors of about `size` bytes together."""
    state = {f"layer{i}.weight": torch.randn(size // _TENSORS // 4) for i in range(_TENSORS)}
    return state | {f"layer{i}.bias": torch.randn(100) for i in range(_SMALL)}


def torch_save(state: dict[str, torch.Tensor], path: Path) -> float:
    """Seconds that torch.save takes until the file is durable."""
    begin = time.perf_counter()
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begin


def measure(folder: Path, count: int = ROUNDS, size: int = STATE_BYTES) -> Times:
    """The medians of some rounds, in a folder on the disk in question."""
    return Times(*map(statistics.median, zip(*rounds(folder, count, size), strict=True)))


def rounds(folder: Path, count: int, size: int) -> list[Times]:
    """The times of each round, `size` bytes each."""
    measured = []
    for _ in range(count):
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            measured.append(_round(Path(inner), size))
    return measured


def _round(folder: Path, size: int) -> Times:
    state = random_state(size)
    file = folder / "torch"
    save_s = torch_save(state, file)
    with Checkpointer(folder / "store") as saver:
        first_s = timed(lambda: saver.save(state, 0))
        unchanged_s = timed(lambda: saver.save(state, 1))
        _change(state, _CHANGED_SHARE)
        changed_s = timed(lambda: saver.save(state, 2))
        for step in (3, 4):  # the first async save makes the staging buffer
            for tensor in state.values():
                tensor.neg_()
            begin = time.perf_counter()
            saving = saver.save(state, step, blocking=False)
            blocking_s = time.perf_counter() - begin
            saving.wait_durable()
        torch_load_s = timed(lambda: torch.load(file))
        load_s = timed(saver.load)
        fill_s = timed(lambda: saver.load(state))
    shutil.rmtree(folder / "store")
    return Times(save_s, torch_load_s, first_s, blocking_s, unchanged_s, changed_s, load_s, fill_s)


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _change(state: dict[str, torch.Tensor], share: float) -> None:
    """Change one value in this share of all blocks."""
    large = [tensor for tensor in state.values() if tensor.nbytes >= BLOCK_BYTES]
    blocks = [(tensor, at) for tensor in large for at in range(0, tensor.numel(), BLOCK_BYTES // 4)]
    for i in torch.randperm(len(blocks))[: max(1, int(len(blocks) * share))].tolist():
        tensor, at = blocks[i]
        tensor[at] += 1


def main() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        times = measure(Path(folder))
    print(times)
    for what, ratio in times.ratios().items():
        print(f"{what:<45} {ratio:6.2f}")


if __name__ == "__main__":
    main()
