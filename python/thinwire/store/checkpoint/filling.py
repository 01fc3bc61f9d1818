"""Which tensors of a given state take which leaves of a checkpoint, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from thinwire.errors import InvalidArgument
from thinwire.store.checkpoint import tree
from thinwire.store.checkpoint.layout import Place
from thinwire.store.checkpoint.tree import Json, join

_MOST_LISTED = 20


class Skipped(NamedTuple):
    """What `load` left out, by path: not in the checkpoint, only in the checkpoint, of another kind."""

    missing: list[str]
    unexpected: list[str]
    unlike: list[str]

    def message(self) -> str:
        """All of it in words; empty where nothing was left out."""
        parts = (
            ("the checkpoint lacks", self.missing),
            ("the state lacks", self.unexpected),
            ("they differ in", self.unlike),
        )
        return "; ".join(f"{what} {_listed(paths)}" for what, paths in parts if paths)


class Filling:
    """What a load does to a given state: it fills tensors in place, and puts all else into its container."""

    def __init__(self, state: dict[Any, Any], described: Json, places: list[Place]) -> None:
        self.skipped = Skipped([], [], [])
        self.tensors: list[tuple[int, torch.Tensor]] = []
        """Leaves, and the tensors that they fill."""
        self.fresh: set[int] = set()
        """Leaves that are put into a container as new tensors or bytes."""
        self._places = places
        self._puts: list[Callable[[Callable[[int], Any]], None]] = []
        self._match(state, described, "", _nowhere)

    def check(self) -> None:
        """Raise InvalidArgument where something does not fit."""
        if any(self.skipped):
            raise InvalidArgument(
                f"the state does not fit the checkpoint: {self.skipped.message()}; pass strict=False to load "
                "the rest"
            )

    def put(self, leaf: Callable[[int], Any]) -> None:
        """Put what is not a given tensor into its container; `leaf` gives the fresh leaves."""
        for put in self._puts:
            put(leaf)

    def _match(self, given: Any, described: Json, path: str, replace: Callable[[Any], None]) -> None:
        kind, value = _kind_of(described)
        if isinstance(given, torch.Tensor):
            self._match_tensor(given, kind, value, path)
        elif isinstance(given, dict) and kind == "dict":
            if given:
                self._match_dict(given, dict(value), path)
            else:
                for key, item in value:
                    self._replace(item, _setter(given, key))
        elif isinstance(given, (list, tuple)) and kind in ("list", "tuple"):
            self._match_sequence(given, value, path, replace)
        elif isinstance(given, (dict, list, tuple)) or (
            given is not None and kind in ("dict", "list", "tuple")
        ):
            self.skipped.unlike.append(f"{path} ({type(given).__name__}, stored as {kind})")
        else:
            self._replace(described, replace)

    def _match_tensor(self, given: torch.Tensor, kind: str, value: Any, path: str) -> None:
        spec = self._places[value].spec if kind == "leaf" else None
        if spec is None:
            self.skipped.unlike.append(f"{path} (a tensor, stored as {'bytes' if kind == 'leaf' else kind})")
            return
        mine = (str(given.dtype).removeprefix("torch."), tuple(given.shape))
        if mine != (spec.dtype, spec.shape):
            self.skipped.unlike.append(
                f"{path} ({mine[0]} {list(mine[1])}, stored as {spec.dtype} {list(spec.shape)})"
            )
            return
        self.tensors.append((value, given))

    def _match_dict(self, given: dict[Any, Any], stored: dict[Any, Json], path: str) -> None:
        for key, item in given.items():
            if key in stored and type(key) in (int, str):
                self._match(item, stored[key], join(path, key), _setter(given, key))
            else:
                self.skipped.missing.append(join(path, key))
        self.skipped.unexpected.extend(join(path, key) for key in stored if key not in given)

    def _match_sequence(
        self,
        given: list[Any] | tuple[Any, ...],
        stored: list[Json],
        path: str,
        replace: Callable[[Any], None],
    ) -> None:
        items = given if isinstance(given, list) else list(given)
        for i, (item, described) in enumerate(zip(items, stored, strict=False)):
            self._match(item, described, join(path, i), _setter(items, i))
        self.skipped.missing.extend(join(path, i) for i in range(len(stored), len(items)))
        self.skipped.unexpected.extend(join(path, i) for i in range(len(items), len(stored)))
        if isinstance(given, tuple):
            self._puts.append(lambda leaf: replace(tuple(items)))

    def _replace(self, described: Json, replace: Callable[[Any], None]) -> None:
        self.fresh.update(leaf for _, leaf in tree.named_leaves(described))
        self._puts.append(lambda leaf: replace(tree.build(described, leaf)))


def _kind_of(described: Json) -> tuple[str, Any]:
    if isinstance(described, list):
        return "list", described
    if isinstance(described, dict):
        return tree.tag(described)
    return type(described).__name__, described


def _setter(container: Any, key: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        container[key] = value

    return put


def _nowhere(value: Any) -> None:
    raise AssertionError("a state is a dict")


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
    return ", ".join(paths[:_MOST_LISTED]) + more
