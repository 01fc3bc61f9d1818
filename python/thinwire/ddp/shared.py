"""Arrays that all ranks hold alike, one a parameter.

They are found by the Parameter object while training, and by name in a state dict. What a step writes becomes
current only if the step was finite on all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

import torch

from thinwire.ddp.names import Names, some
from thinwire.errors import InvalidArgument


class Entry(Protocol):
    """What a parameter has."""

    @property
    def current(self) -> torch.Tensor:
        """What counts, and is saved: a view to write to. The next commit may put another in its place."""

    @property
    def in_memory(self) -> torch.Tensor:
        """The same as it lies in memory, and as it was saved before version 5."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""

    def begin(self) -> None:
        """Take what the first step has."""

    def commit(self) -> None:
        """Make what the last step wrote current."""

    def discard(self) -> None:
        """Forget what the last step wrote."""


EntryT = TypeVar("EntryT", bound=Entry)


class SharedArrays(Generic[EntryT]):
    """The entries of one rank, equal to every other rank's.

    Args:
        names: of parameters.
        what: an entry is called in messages, as in "basis".
        option: how its shape came about, for messages.
    """

    def __init__(self, names: Names, what: str, option: str) -> None:
        self._names, self._what, self._option = names, what, option
        self._of: dict[torch.Tensor, EntryT] = {}
        self._loaded: dict[str, torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(entry.nbytes for entry in self._of.values())

    def of(self, parameter: torch.Tensor, make: Callable[[], EntryT]) -> EntryT:
        """Return the entry of a parameter, made at its first use.

        Raises InvalidArgument if a loaded state has one of another shape.
        """
        entry = self._of.get(parameter)
        if entry is None:
            entry = make()
            name = self._names.of(parameter)
            if name in self._loaded:
                saved = self._loaded.pop(name)
                self._place_of(name, saved, entry).copy_(saved)
            self._of[parameter] = entry
        return entry

    def commit(self) -> None:
        """Make what the last step wrote current."""
        for entry in self._of.values():
            entry.commit()

    def discard(self) -> None:
        """Forget what the last step wrote: it was not finite, or failed."""
        for entry in self._of.values():
            entry.discard()

    def rescale(self, factor: float) -> None:
        """Multiply everything, because the loss scale changed by `factor`."""
        for entry in self._of.values():
            entry.current.mul_(factor)
        for loaded in self._loaded.values():
            loaded.mul_(factor)

    def named(self) -> list[tuple[str, torch.Tensor]]:
        """Return what is current and what it is, in the same order on every rank."""
        return [
            (f"the {self._what} of {self._names.of(parameter)}", entry.current)
            for parameter, entry in self._of.items()
        ]

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of what is current by name of its parameter."""
        used = {self._names.of(parameter): entry.current.clone() for parameter, entry in self._of.items()}
        return {**{name: entry.clone() for name, entry in self._loaded.items()}, **used}

    def check(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Raise InvalidArgument if `load(entries)` would not fit by name and shape. Nothing always fits."""
        known = {self._names.of(parameter): entry for parameter, entry in self._of.items()}
        missing = [name for name in known if name not in entries]
        if entries and missing:
            raise InvalidArgument(f"the state has no {self._what} for parameter {some(missing)}")
        for name, entry in known.items():
            if name in entries:
                self._place_of(name, entries[name], entry)

    def load(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Take up what was saved, or without an entry what the first step has. Others wait for their use."""
        self.check(entries)
        self.discard()
        loose = {name: entry.detach().clone() for name, entry in entries.items()}
        for parameter, entry in self._of.items():
            name = self._names.of(parameter)
            saved = loose.pop(name, None)
            if saved is not None:
                self._place_of(name, saved, entry).copy_(saved)
            else:
                entry.begin()
        self._loaded = loose

    def _place_of(self, name: str, saved: torch.Tensor, entry: EntryT) -> torch.Tensor:
        """Return where a saved array belongs in an entry. Raises InvalidArgument for one of another shape."""
        for place in (entry.current, entry.in_memory):
            if saved.shape == place.shape:
                return place
        raise misfit(f"{self._what} of {name}", saved, entry.current, self._option)


def misfit(what: str, saved: torch.Tensor, wanted: torch.Tensor, option: str) -> InvalidArgument:
    """Return the error for an array of a state that has another shape here; `option` says how that came."""
    found, here = tuple(saved.shape), tuple(wanted.shape)
    return InvalidArgument(f"the {what} is {found} in the state, {here} here ({option})")
