"""A disk that loses power: the calls of the local backend are recorded, and replayed with what was not synced
lost, torn or out of order.

The model is that of Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), at its weakest:
bytes of a file are on the disk after fsync of the file, a name after fsync of its folder. What was not synced
may be there or not, each change of a name for itself; bytes may be there in part, or be zeros.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from faulty_backend import FaultyBackend
from thinwire.store import local


class Call(NamedTuple):
    """One change, or one promise: fsync of a file or folder, or "told", after which `data` is promised."""

    kind: str
    path: str
    data: Any = None


class Recorder:
    """Writes down what the local backend asks of the system for a store at `root`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[Call] = []
        self._lock = threading.RLock()
        self._around = str(root.parent)  # it holds the name of the store's folder
        self._paths: dict[int, str] = {}
        for name, note in {
            "open": self._opened,
            "close": self._closed,
            "writev": self._written,
            "fsync": self._synced,
            "link": self._linked,
            "unlink": self._unlinked,
            "mkdir": self._made,
        }.items():
            monkeypatch.setattr(local.os, name, self._wrap(getattr(os, name), note))

    def told(self, promise: Any) -> None:
        """The caller was promised this."""
        self.calls.append(Call("told", "", promise))

    def _wrap(self, call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def recorded(*args: Any, **options: Any) -> Any:
            with self._lock:  # so that the calls of several threads stand in their order
                result = call(*args, **options)
                note(result, *args)
            return result

        return recorded

    def _add(self, kind: str, path: Any, data: Any = None) -> None:
        text = os.fspath(path)
        if text.startswith(self._around):
            self.calls.append(Call(kind, text, data))

    def _opened(self, descriptor: int, path: Any, flags: int, *_: Any) -> None:
        self._paths[descriptor] = os.fspath(path)
        if flags & os.O_CREAT:
            self._add("create", path)

    def _closed(self, _: None, descriptor: int) -> None:
        self._paths.pop(descriptor, None)

    def _written(self, size: int, descriptor: int, parts: Any) -> None:
        self._add("write", self._paths.get(descriptor, ""), b"".join(parts)[:size])

    def _synced(self, _: None, descriptor: int) -> None:
        self._add("fsync", self._paths.get(descriptor, ""))

    def _linked(self, _: None, source: Any, target: Any) -> None:
        self._add("link", target, os.fspath(source))

    def _unlinked(self, _: None, path: Any, **__: Any) -> None:
        self._add("unlink", path)

    def _made(self, _: None, path: Any, *__: Any) -> None:
        self._add("mkdir", path)


@dataclass
class _File:
    """Bytes in the page cache, and how many of them are on the disk."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


_FOLDER = _File()  # stands for any folder, as names are all that it holds
_Names = dict[str, _File]


class Disk:
    """Follows the calls, and gives what a power cut at this moment can leave."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._now: _Names = {}
        self._synced: _Names = {}
        self._pending: list[tuple[str, _File | None]] = []  # changes of names, oldest first
        self.promised: list[Any] = []

    def apply(self, call: Call) -> None:
        """Follow one call."""
        if call.kind == "told":
            self.promised.append(call.data)
        elif call.kind == "write":
            self._now[call.path].data += call.data
        elif call.kind == "fsync":
            self._sync(call.path)
        else:
            made = {"create": _File, "mkdir": lambda: _FOLDER, "unlink": lambda: None}
            self._name(call.path, self._now[call.data] if call.kind == "link" else made[call.kind]())

    def least(self) -> FaultyBackend:
        """Nothing that was not synced is there."""
        return self._left(self._synced, lambda file: bytes(file.data[: file.synced]))

    def most(self) -> FaultyBackend:
        """Every name is there, and no byte that was not synced: as zeros."""
        return self._left(
            self._now, lambda file: bytes(file.data[: file.synced]).ljust(len(file.data), b"\0")
        )

    def some(self, chance: random.Random) -> FaultyBackend:
        """Some changes of names are there, and some bytes."""
        names = dict(self._synced)
        share = chance.choice([0.1, 0.5, 0.9])
        for path, file in self._pending:
            if chance.random() < share:
                _set(names, path, file)

        def torn(file: _File) -> bytes:
            end = chance.randint(file.synced, len(file.data))
            zeros = chance.choice([0, len(file.data) - end])
            return bytes(file.data[:end]) + bytes(zeros)

        return self._left(names, torn)

    def _name(self, path: str, file: _File | None) -> None:
        _set(self._now, path, file)
        self._pending.append((path, file))

    def _sync(self, path: str) -> None:
        if path in self._now and self._now[path] is not _FOLDER:
            self._now[path].synced = len(self._now[path].data)
            return
        left = []
        for name, file in self._pending:
            if os.path.dirname(name) == path:  # noqa: PTH120
                _set(self._synced, name, file)
            else:
                left.append((name, file))
        self._pending = left

    def _left(self, names: _Names, data: Callable[[_File], bytes]) -> FaultyBackend:
        made = FaultyBackend()
        for path, file in names.items():
            if file is not _FOLDER and self._is_reachable(path, names) and ".tmp-" not in path:
                made.objects[os.path.relpath(path, self._root)] = (data(file), 0.0)
        return made

    def _is_reachable(self, path: str, names: _Names) -> bool:
        folders = (str(folder) for folder in Path(path).parents if str(folder).startswith(self._root))
        return all(folder in names for folder in folders)


def _set(names: _Names, path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def power_cuts(
    calls: list[Call], root: Path, cuts: int, chance: random.Random
) -> Iterator[tuple[FaultyBackend, list[Any]]]:
    """Every distinct disk that a power cut between any two calls can leave, `cuts` of each moment by chance,
    with what was promised by then. A power cut during a call is among those before and after it."""
    disk = Disk(root)
    seen: set[tuple[int, frozenset[tuple[str, bytes]]]] = set()
    for call in calls:
        disk.apply(call)
        for backend in (disk.least(), disk.most(), *(disk.some(chance) for _ in range(cuts))):
            state = frozenset((path, data) for path, (data, _) in backend.objects.items())
            if (key := (len(disk.promised), state)) not in seen:
                seen.add(key)
                yield backend, list(disk.promised)
