"""Cases of `thinwire bench dedup`: saving and loading a state beside torch.save, DCP and safetensors."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from thinwire._durable import sync
from thinwire.bench._cases import Case, Effort, Measured, need, seconds

Round = dict[str, float]
"""Seconds that each method took in one round."""

_SAVE, _DCP, _SAFETENSORS = "torch_save", "dcp", "safetensors"


def cases() -> list[Case]:
    """What a Checkpointer does, and what the others need for the same."""
    synced = "torch.save + fsync"
    return [
        Case("save, unchanged state", synced, 8.0, partial(_times, "unchanged", _SAVE)),
        Case("save, 1 % of blocks changed", synced, 6.0, partial(_times, "changed", _SAVE)),
        Case("first save, durable", synced, 0.8, partial(_times, "first", _SAVE)),
        Case("first save, durable", "DCP", None, partial(_times, "first", _DCP)),
        Case("first save, durable", "safetensors + fsync", None, partial(_times, "first", _SAFETENSORS)),
        Case("blocking part of a save", synced, 0.15, partial(_times, "blocking_part", _SAVE), at_most=True),
        Case("load, verified", "torch.load", 1.5, partial(_times, "load", "torch_load")),
        Case("load into given tensors", "torch.load", 1.5, partial(_times, "fill", "torch_load")),
    ]


def _times(own: str, base: str, effort: Effort) -> Measured:
    need("torch")
    need("zstandard")
    if base == _SAFETENSORS:
        need("safetensors")
    rounds = _measure(effort)
    return Measured([each[own] for each in rounds], [each[base] for each in rounds], _state_bytes(effort))


def _state_bytes(effort: Effort) -> int:
    return effort.state_megabytes * 10**6


@cache
def _measure(effort: Effort) -> list[Round]:
    """All methods in turn in every round, on the disk of the current folder."""
    return [_round(effort, backwards=bool(number % 2)) for number in range(effort.rounds)]


def _round(effort: Effort, *, backwards: bool) -> Round:
    """`backwards`: loading in the other order, lest one method always have what another leaves."""
    from thinwire.bench import _checkpoint_loads, _checkpoint_times

    size = _state_bytes(effort)
    loads = list(_checkpoint_loads.METHODS)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        times: Round = _checkpoint_times.measure(Path(folder), size)._asdict()
        times |= _checkpoint_loads.in_processes(Path(folder), size, loads[::-1] if backwards else loads)
        return times | dict(_others(Path(folder), _checkpoint_times.random_state(size)))


def _others(folder: Path, state: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Seconds that saving takes until the files are durable."""
    import torch.distributed.checkpoint as dcp

    # It syncs by itself.
    yield _DCP, seconds(lambda: dcp.save(state, checkpoint_id=folder / "dcp", no_dist=True))
    shutil.rmtree(folder / "dcp")
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError:
        return

    def save() -> None:
        save_file(state, folder / "safetensors")
        sync(folder / "safetensors")

    yield _SAFETENSORS, seconds(save)
    (folder / "safetensors").unlink()
