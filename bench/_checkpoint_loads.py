"""Times of loading a state, each in a process of its own, as the job does it that resumes.

In a process that has worked for a while chance decides: memory that it freed is at hand for whoever takes the
same size, new memory is not. What is free on a virtual machine may have gone back to its host, too, and takes
several times as long to touch. So every process begins alike: it touches and frees more than it needs.
"""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from thinwire.bench._cases import Action, seconds
from thinwire.bench._checkpoint_times import STORE, TORCH_FILE, random_state
from thinwire.store.checkpoint import Checkpointer, tensors

_TOUCHED = 3  # times a state's bytes


def _torch_load(folder: Path, size: int) -> Action:
    return lambda: torch.load(folder / TORCH_FILE)


def _load(folder: Path, size: int) -> Action:
    return lambda: Checkpointer(folder / STORE).load()


def _fill(folder: Path, size: int) -> Action:
    given = random_state(size)
    return lambda: Checkpointer(folder / STORE).load(given)


METHODS: dict[str, Callable[[Path, int], Action]] = {"torch_load": _torch_load, "load": _load, "fill": _fill}
"""Each prepares to load what `_checkpoint_times.measure` left in a folder, a state of so many bytes."""


def in_processes(folder: Path, size: int, methods: Sequence[str]) -> dict[str, float]:
    """Seconds of each method, in that order."""
    return {method: _in_process(method, folder, size) for method in methods}


def _in_process(method: str, folder: Path, size: int) -> float:
    command = [sys.executable, "-m", "thinwire.bench._checkpoint_loads", method, folder, str(size)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(method: str, folder: Path, size: int) -> float:
    """Seconds of one method in this process."""
    load = METHODS[method](folder, size)
    gc.collect()  # all that importing torch has left behind, which else the next to allocate would pay for
    tensors.allocate(_TOUCHED * size)[:: mmap.PAGESIZE] = 1  # and freed
    return seconds(load)


if __name__ == "__main__":
    print(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
