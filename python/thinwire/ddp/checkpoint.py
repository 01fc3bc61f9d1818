"""What a HookState saves, and how it is put together again for another number of ranks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from thinwire import _core
from thinwire.ddp.plan import canonical_json
from thinwire.errors import InvalidArgument

VERSION = 5
SHARED = ("bases", "pending", "factors")
"""What all ranks hold alike."""
_BY_NAME = {"residuals", *SHARED}
_KEYS = {"version", "step", "rank", "world_size", "loss_scale", *_BY_NAME}
_CAME_LATER = {1: SHARED, 2: ("pending", "factors"), 3: ("factors",), 4: ()}
"""What states of earlier versions do not have."""
_log = logging.getLogger("thinwire.ddp")


@dataclass(frozen=True)
class Kept:
    """What is kept for parameters, by name: residuals, a rank's own, and what all ranks hold alike."""

    residuals: dict[str, torch.Tensor]
    bases: dict[str, torch.Tensor]
    pending: dict[str, torch.Tensor]
    factors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class SavedState:
    """One rank's part of a checkpoint.

    `step` is the number of the next step, `loss_scale` what the residuals are multiplied with.
    """

    step: int
    rank: int
    world_size: int
    loss_scale: float
    kept: Kept

    def as_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        plain = {key: value for key, value in vars(self).items() if key != "kept"}
        return {"version": VERSION, **plain, **vars(self.kept)}

    @staticmethod
    def of(saved: Any) -> SavedState:
        """Read a dict that `as_dict` made. Raises InvalidArgument for anything else."""
        if isinstance(saved, Mapping) and saved.get("version") in _CAME_LATER:
            later = _CAME_LATER[saved["version"]]
            saved = {**saved, "version": VERSION, **{key: {} for key in later}}
        if not isinstance(saved, Mapping) or set(saved) != _KEYS:
            raise InvalidArgument(
                f"this is not a state_dict of a HookState: it must have {', '.join(sorted(_KEYS))}"
            )
        if saved["version"] != VERSION:
            raise InvalidArgument(f"the state has version {saved['version']}, this release reads {VERSION}")
        plain = {key: saved[key] for key in _KEYS - _BY_NAME - {"version"}}
        _check_plain(plain)
        kept = Kept(**{what: _tensors(what, saved[what]) for what in _BY_NAME})
        return SavedState(**plain, kept=kept)


def _check_plain(plain: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for numbers that no HookState saves."""
    least = {"step": 0, "rank": 0, "world_size": 1}
    for name, minimum in least.items():
        if type(plain[name]) is not int or plain[name] < minimum:
            raise InvalidArgument(
                f"the state's {name} is {plain[name]!r}; it must be a number of {minimum} or more"
            )
    if plain["rank"] >= plain["world_size"]:
        raise InvalidArgument(f"the state is of rank {plain['rank']} of {plain['world_size']} ranks")
    scale = plain["loss_scale"]
    if type(scale) not in (int, float) or not (math.isfinite(scale) and scale > 0):
        raise InvalidArgument(f"the state's loss_scale is {scale!r}; it must be a finite number above 0")


def _tensors(what: str, entries: Any) -> dict[str, torch.Tensor]:
    """Return entries that are tensors by name. Raises InvalidArgument for anything else."""
    found = entries.values() if isinstance(entries, Mapping) else [None]
    if not all(isinstance(entry, torch.Tensor) and entry.is_floating_point() for entry in found):
        raise InvalidArgument(f"the state's {what} must be a dict of floating-point tensors by parameter")
    return dict(entries)


def merge_states(saved: Any, rank: int, world_size: int) -> SavedState:
    """Return the state of `rank` among `world_size` ranks.

    `saved` is one state dict, or those of several ranks. Old rank i goes to rank i mod `world_size`;
    residuals that meet are added; what is shared is the same in all. What nobody brings is lost:
    those residuals start from zero, which is logged. Raises InvalidArgument if the states do not belong
    together.
    """
    given = [saved] if isinstance(saved, Mapping) else saved
    if not isinstance(given, Sequence) or not given:
        raise InvalidArgument("load_state_dict takes a state dict, or a list of those of several ranks")
    states = [SavedState.of(entry) for entry in given]
    first = states[0]
    for state in states:
        if (state.step, state.world_size, state.loss_scale) != (
            first.step,
            first.world_size,
            first.loss_scale,
        ):
            raise InvalidArgument(
                f"the states of rank {first.rank} and rank {state.rank} are not from one checkpoint"
            )
    for what in SHARED if len(states) > 1 else ():
        digests = [digest(getattr(state.kept, what)) for state in states]
        for state, found in zip(states, digests, strict=True):
            if found != digests[0]:
                raise InvalidArgument(
                    f"rank {first.rank} and rank {state.rank} were saved with different {what}"
                )
    by_rank = {state.rank: state for state in states}
    if len(by_rank) < len(states):
        raise InvalidArgument("the list holds one rank's state twice")
    wanted = range(rank, first.world_size, world_size)
    lost = [old for old in wanted if old not in by_rank]
    if lost:
        _log.warning(
            "rank %d: no state of former rank %s; its residuals start from zero",
            rank,
            ", ".join(map(str, lost)),
        )
    residuals = _sum([by_rank[old].kept.residuals for old in wanted if old in by_rank])
    kept = replace(first.kept, residuals=residuals)
    return SavedState(first.step, rank, world_size, first.loss_scale, kept)


def _sum(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    total: dict[str, torch.Tensor] = dict(parts[0]) if parts else {}
    for part in parts[1:]:
        if {name: entry.shape for name, entry in part.items()} != {
            name: entry.shape for name, entry in total.items()
        }:
            raise InvalidArgument("the states of two ranks have residuals of different names or shapes")
        total = {name: entry.float() + part[name].float() for name, entry in total.items()}
    return total


def digest(entries: Mapping[str, torch.Tensor]) -> int:
    """Return a hash of saved arrays, by which ranks find out whether they load the same."""
    hashes = {name: _digest_of(entry) for name, entry in entries.items()}
    return _core.xxh3_64(canonical_json(hashes))


def _digest_of(entry: torch.Tensor) -> int:
    return _core.xxh3_64(entry.detach().float().cpu().contiguous().numpy().data)
