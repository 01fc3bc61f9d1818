"""The steps of a checkpoint's name: each version of it holds one. Which of them stay."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from thinwire.errors import InvalidArgument, NotFound, StoreError
from thinwire.store.checkpoint.loading import Stored
from thinwire.store.refs import Ref, parse
from thinwire.store.store import Store

LATEST = "latest"
KIND, PART_KIND = "checkpoint", "checkpoint part"
_log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A version that holds a step; `parts` are the versions that hold other ranks' shares of it."""

    step: int
    ref: Ref
    parts: list[str]


class Retention(NamedTuple):
    """Keep the newest `last` steps, and every step that `every` divides; None, None: all."""

    last: int | None
    every: int | None

    def check(self) -> None:
        """Raise InvalidArgument for numbers below 1."""
        for name, value in (("keep_last", self.last), ("keep_every", self.every)):
            if value is not None and value < 1:
                raise InvalidArgument(f"{name} is {value}; pass 1 or more, or None")

    def surplus(self, steps: Sequence[Step]) -> list[Step]:
        """The steps to delete, of all in the order they were saved. Never the newest."""
        if self.last is None and self.every is None:
            return []
        last = self.last or 1
        again = {step.step: step.ref.version for step in steps}  # a step saved twice counts as the later one
        return [
            step
            for step in steps[:-last]
            if self.every is None or step.step % self.every or again[step.step] != step.ref.version
        ]


class Steps:
    """The steps of one name in a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name
        self._said: dict[tuple[str, int], Any] = {}  # of versions: they never change

    def all(self) -> list[Step]:
        """Every step whose description can be read, in the order they were saved."""
        return self._all()[0]

    def newest(self) -> Step | None:
        """The step saved last. Raises CorruptChunk where it is damaged: an older one must not pass for it."""
        with contextlib.suppress(NotFound):
            for step in self._step(self._store.refs.resolve(self.name)):
                return step
        every = reversed(self._store.refs.versions(self.name))
        return next((step for ref in every for step in self._step(ref)), None)

    def find(self, wanted: int | str) -> Step:
        """A step by its number, or "latest". Raises NotFound, CorruptChunk where it may be a damaged one."""
        damage: StoreError | None = None
        if wanted == LATEST:
            found = self.newest()
        elif type(wanted) is int:
            every, damage = self._all()
            found = next((step for step in reversed(every) if step.step == wanted), None)
        else:
            raise InvalidArgument(f"step is {wanted!r}; pass a number or 'latest'")
        if found is None and damage is not None:
            raise damage
        if found is None:
            have = ", ".join(str(step.step) for step in self.all()) or "none"
            raise NotFound(f"{self.name} has no step {wanted}; it has {have}")
        return found

    def open(self, version: str) -> Stored:
        """What a version holds."""
        return Stored(self._store.reader(version))

    def delete(self, steps: Iterable[Step]) -> None:
        """Delete steps: first what names the parts, then the parts."""
        for step in steps:
            for version in [f"{self.name}@{step.ref.version}", *step.parts]:
                with contextlib.suppress(NotFound):  # another process was faster
                    self._store.delete(version)

    def delete_orphans(self, parts: Sequence[str]) -> None:
        """Delete the parts of saves that were never committed. `parts` are those of the newest step.

        A part that is newer than its rank's in `parts` may be that of a save that goes on.
        """
        newest = dict(parse(part) for part in parts)
        named = {
            part for ref in self._store.refs.versions(self.name) for part in self.said(ref)["parts"] or []
        }
        for name in self._store.refs.names(f"{self.name}/rank"):
            for ref in self._store.refs.versions(name):
                if f"{name}@{ref.version}" not in named and ref.version < (newest.get(name) or 0):
                    with contextlib.suppress(NotFound):  # another process was faster
                        self._store.refs.delete(name, ref.version)

    def said(self, ref: Ref) -> Any:
        """The metadata of a version."""
        key = (ref.name, ref.version)
        if key not in self._said:
            said = self._store.catalog.manifest(ref).metadata
            self._said[key] = {name: said.get(name) for name in ("kind", "step", "parts", "save")}
        return self._said[key]

    def _all(self) -> tuple[list[Step], StoreError | None]:
        """Every step whose description can be read, and why another's cannot."""
        found: list[Step] = []
        damage: StoreError | None = None
        for ref in self._store.refs.versions(self.name):
            try:
                found += self._step(ref)
            except StoreError as error:
                damage = error
                _log.warning("a step of %s is left out: %s", self.name, error)
        return found, damage

    def _step(self, ref: Ref) -> list[Step]:
        said = self.said(ref)
        if said["kind"] != KIND:
            return []
        return [Step(int(said["step"]), ref, list(said["parts"] or []))]


__all__ = ["KIND", "LATEST", "PART_KIND", "Retention", "Step", "Steps"]
