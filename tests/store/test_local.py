"""What the local backend asks of the operating system, in which order, and what it does when that fails."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from thinwire.errors import Conflict, StoreError
from thinwire.store import local
from thinwire.store.local import LocalBackend

CALLS = ("open", "writev", "fsync", "link", "close")


class Recorder:
    """Writes down the calls of the backend; the one with number `failing` fails with `code`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, failing: int | None = None, code: int = errno.EIO
    ) -> None:
        self.log: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}
        self._failing, self._code = failing, code
        for name in CALLS:
            monkeypatch.setattr(local.os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **options: Any) -> Any:
            what = self._names.get(args[0], "?") if isinstance(args[0], int) else str(args[0])
            self.log.append((name, self._short(what)))
            fails = len(self.log) - 1 == self._failing
            if fails and name == "close":
                call(*args, **options)
            if fails:
                raise OSError(self._code, os.strerror(self._code))
            result = call(*args, **options)
            if name == "open":
                self._names[result] = what
            return result

        return recorded

    def _short(self, path: str) -> str:
        name = Path(path).name
        return "temporary" if name.startswith(".tmp-") else name


def calls(recorder: Recorder, *names: str) -> list[tuple[str, str]]:
    return [entry for entry in recorder.log if entry[0] in names]


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    LocalBackend(tmp_path / "store").create("packs/ab/x", [b"1", b"2"])
    assert calls(recorder, "writev", "fsync", "link") == [
        ("fsync", tmp_path.name),  # it holds the name of the store's folder
        ("fsync", "store"),
        ("fsync", "packs"),
        ("writev", "temporary"),
        ("fsync", "temporary"),
        ("link", "temporary"),
        ("fsync", "ab"),
    ]


def test_folders_that_another_has_made_are_synced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalBackend(tmp_path).create("packs/ab/x", [b"1"])
    backend, recorder = LocalBackend(tmp_path), Recorder(monkeypatch)
    backend.create("packs/ab/y", [b"1"])
    assert ("fsync", "packs") in recorder.log
    recorder.log.clear()
    backend.create("packs/ab/z", [b"1"])
    assert calls(recorder, "fsync") == [("fsync", "temporary"), ("fsync", "ab")]


def steps_of_a_create(tmp_path: Path) -> list[tuple[str, str]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        LocalBackend(tmp_path / "dry").create("a/b", [b"1", b"2"])
        return recorder.log


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_create_that_fails_leaves_a_whole_object_or_none(tmp_path: Path, code: int) -> None:
    steps = steps_of_a_create(tmp_path)
    linked = next(number for number, (name, _) in enumerate(steps) if name == "link")
    for failing, step in enumerate(steps):
        root = tmp_path / str(failing)
        backend = LocalBackend(root)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Recorder(monkeypatch, failing, code)
            written_anew = code == errno.EIO and step == ("fsync", "temporary")
            failed = not written_anew
            with pytest.raises(StoreError, match="a/b") if failed else nullcontext() as caught:
                backend.create("a/b", [b"1", b"2"])
        assert caught is None or caught.value.errno == code, step
        there = [entry.path for entry in backend.list("")]
        assert there == ([] if failing <= linked and failed else ["a/b"]), step
        assert not [path for path in root.rglob("*") if ".tmp-" in path.name], step
        if there:
            assert backend.read("a/b") == b"12"
        else:
            backend.create("a/b", [b"1", b"2"])  # it is as if nothing had been


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local.os, "writev", full)
    with pytest.raises(StoreError, match=r"writing a: no space is left; free some .* nothing half-written"):
        LocalBackend(tmp_path).create("a", [b"1"])


def test_after_a_failed_sync_the_bytes_are_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(tmp_path)
    backend.create("other", [b""])
    opened: list[str] = []
    synced: list[int] = []
    real_open, real_sync = os.open, os.fsync

    def recorded_open(path: Any, *args: Any) -> int:
        opened.append(Path(path).name)
        return real_open(path, *args)

    def sync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real_sync(descriptor)

    monkeypatch.setattr(local.os, "open", recorded_open)
    monkeypatch.setattr(local.os, "fsync", sync)
    backend.create("a", [b"1"])
    temporary = [name for name in opened if name.startswith(".tmp-")]
    assert len(set(temporary)) == 2
    assert backend.read("a") == b"1"


def test_a_second_failed_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local.os, "fsync", sync)
    backend = LocalBackend(tmp_path)
    with pytest.raises(StoreError, match="writing a: Input/output error; look after the disk"):
        backend.create("a", [b"1"])
    assert list(tmp_path.iterdir()) == []


def test_short_writes_and_many_parts_are_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    lengths: list[int] = []

    def short(descriptor: int, parts: list[memoryview]) -> int:
        lengths.append(len(parts))
        return real(descriptor, [parts[0][: max(1, len(parts[0]) // 2)]] if len(lengths) % 2 else parts)

    monkeypatch.setattr(local.os, "writev", short)
    parts = [bytes([number % 251]) * (number % 7) for number in range(5000)]
    LocalBackend(tmp_path).create("a", parts)
    assert (tmp_path / "a").read_bytes() == b"".join(parts)
    assert max(lengths) <= 1024


def no_link(code: int) -> Callable[..., None]:
    def link(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_without_links_an_object_is_renamed_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(local.os, "link", no_link(code))
    backend = LocalBackend(tmp_path)
    backend.create("a", [b"1"])
    monkeypatch.setattr(Path, "exists", lambda self: False)  # the race that a look before cannot win
    with pytest.raises(Conflict):
        backend.create("a", [b"2"])
    assert (tmp_path / "a").read_bytes() == b"1"


def test_without_links_and_renames_a_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.os, "link", no_link(errno.EPERM))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(StoreError, match="keep the store on another filesystem"):
        LocalBackend(tmp_path).create("a", [b"1"])


def test_a_link_whose_answer_was_lost_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(local.os, "link", twice)
    LocalBackend(tmp_path).create("a", [b"1"])
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_name_of_another_file_is_not_taken_for_that_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def beside_a_backup(source: Path, target: Path) -> None:
        real(source, tmp_path / "backup")  # somebody gives the temporary file another name
        real(source, target)

    (tmp_path / "a").write_bytes(b"another's")
    monkeypatch.setattr(local.os, "link", beside_a_backup)
    with pytest.raises(Conflict):
        LocalBackend(tmp_path).create("a", [b"1"])


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO], ids=errno.errorcode.get)
def test_folders_that_cannot_be_synced_are_no_error_and_those_that_fail_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fsync

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(local.os, "fsync", sync)
    with nullcontext() if code == errno.EINVAL else pytest.raises(StoreError, match="Input/output"):
        LocalBackend(tmp_path).create("a", [b"1"])


def test_leftovers_are_not_listed_and_are_removed_when_they_are_old(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.create("x/a", [b""])
    old, new = tmp_path / "x" / ".tmp-old", tmp_path / "x" / ".tmp-new"
    for each in (old, new):
        each.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert [entry.path for entry in backend.list("")] == ["x/a"]
    backend.tidy(3600)
    assert not old.exists()
    assert new.exists()


def test_a_store_that_may_not_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.os, "link", no_link(errno.EACCES))
    with pytest.raises(StoreError, match="Permission denied; give this user the right"):
        LocalBackend(tmp_path).create("a", [b"1"])


def test_a_folder_that_vanishes_is_told(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    backend.create("a", [b"1"])
    (tmp_path / "store" / "a").unlink()
    (tmp_path / "store").rmdir()
    with pytest.raises(StoreError, match="its folder vanished meanwhile"):
        backend.create("a", [b"1"])
    backend.create("a", [b"1"])
