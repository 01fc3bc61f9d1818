"""Each call to the system fails once in puts, collections, copies and while a location is emptied: a
StoreError, and a sound store."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crash_world import attempt, check_afterwards, check_sound, put
from thinwire.store import local
from thinwire.store.store import Store

CALLS = ("open", "close", "writev", "pread", "preadv", "fsync", "fstat", "link", "unlink", "mkdir", "scandir")
CODES = (errno.ENOSPC, errno.EIO)
ENDLESS = 10**9

Work = Callable[[Path], None]


class Failing:
    """The call number `failing` of those that concern files below `root` fails with `code`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, failing: int, code: int) -> None:
        self.count = 0
        self.failed = ""
        self._root, self._failing, self._code = str(root), failing, code
        self._descriptors: set[int] = set()
        for name in CALLS:
            monkeypatch.setattr(local.os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            if not self._concerns(args[0] if args else "."):
                return call(*args, **options)
            self.count += 1
            fails = self.count == self._failing
            if fails:
                self.failed = name
            if name == "close":
                self._descriptors.discard(args[0])
                call(*args, **options)  # which closes, also where it fails
            if fails:
                raise OSError(self._code, os.strerror(self._code))
            result = None if name == "close" else call(*args, **options)
            if name == "open":
                self._descriptors.add(result)
            return result

        return called

    def _concerns(self, what: Any) -> bool:
        return what in self._descriptors if isinstance(what, int) else str(what).startswith(self._root)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something to collect, to rewrite and to copy."""
    root = tmp_path_factory.mktemp("before") / "store"
    with Store(root, threads=1) as store:
        for number in range(3):
            put(store, "a", number)
        put(store, "b", 3)
        store.delete("a@1")
        store.delete("a@2")
    return root


STANDING = {("a", 3): 2, ("b", 1): 3}


def put_one(root: Path) -> None:
    with Store(root, threads=1) as store:
        put(store, "a", 4)


def collect(root: Path) -> None:
    with Store(root, threads=1) as store:
        store.gc(wait_s=0)


def copy(root: Path) -> None:
    """The failing store is the one that is copied to."""
    with Store(root.parent / "source", threads=1) as store:
        store.sync(root)


def empty(root: Path) -> None:
    """Calls that concern the location fail, too: its path begins with the store's."""
    with Store(root, threads=1) as store:
        store.empty_location(str(location_of(root)), wait_s=0)


def location_of(root: Path) -> Path:
    return root.with_name(f"{root.name}-location")


def check_emptied(root: Path, promised: dict[tuple[str, int], int]) -> None:
    """Done again, it succeeds."""
    with Store(root, threads=1) as store:
        store.empty_location(str(location_of(root)))
        assert [len(found.packs) for found in store.locations()][1:] == [0]
        check_sound(store, promised)


def copy_of(before: Path, root: Path, work: Work) -> None:
    if work is copy:
        shutil.copytree(before, root.parent / "source")
        with Store(root.parent / "source", threads=1) as store:
            store.sync(root)
            put(store, "b", 5)
        return
    shutil.copytree(before, root)
    if work is empty:
        with Store(root, threads=1) as store:
            store.add_location(location_of(root))
            store.add_location(root, weight=0)
            put(store, "b", 5)
            put(store, "b", 6)
            store.delete("b@2")
            store.add_location(root)


def fail_once(before: Path, root: Path, work: Work, failing: int, code: int) -> int:
    """Let one call fail, and look at the store; how many calls there were."""
    copy_of(before, root, work)
    with pytest.MonkeyPatch.context() as monkeypatch:
        calls = Failing(monkeypatch, root, failing, code)
        error = attempt(lambda: work(root))
    # Where what failed can be done without, as tidying up can, the work succeeds.
    promised = STANDING | ({("a", 4): 4} if work is put_one and error is None else {})
    promised |= {("b", 2): 5} if work is copy and error is None else {}
    promised |= {("b", 3): 6} if work is empty else {}
    try:
        if calls.failed:
            assert error is None or error.errno in (None, code), error
        check_afterwards(root, promised)
        if work is empty:
            check_emptied(root, promised)
    except BaseException as violation:
        raise AssertionError(
            f"call {failing} of {work.__name__}, {calls.failed}: {errno.errorcode[code]}"
        ) from violation
    shutil.rmtree(root.parent)
    return calls.count


def fail_each(before: Path, folder: Path, work: Work, stride: int) -> None:
    """Let every `stride`-th call fail, with all errors in turn."""
    (folder / "dry").mkdir(parents=True)
    count = fail_once(before, folder / "dry" / "store", work, ENDLESS, CODES[0])
    assert count > 50
    for failing in range(1, count + 1, stride):
        for code in CODES if stride == 1 else CODES[failing // stride % 2 :][:1]:
            (folder / "wet").mkdir()
            fail_once(before, folder / "wet" / "store", work, failing, code)


@pytest.mark.parametrize(("work", "stride"), [(put_one, 11), (collect, 29), (copy, 29), (empty, 83)])
def test_some_call_fails(before: Path, tmp_path: Path, work: Work, stride: int) -> None:
    fail_each(before, tmp_path, work, stride)


@pytest.mark.torture
@pytest.mark.parametrize("work", [put_one, collect, copy, empty], ids=lambda work: work.__name__)
def test_each_call_fails(before: Path, tmp_path: Path, work: Work) -> None:
    fail_each(before, tmp_path, work, 1)
