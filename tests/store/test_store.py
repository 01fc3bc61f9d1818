"""A store as its users see it: what goes in comes out, and what makes no sense is refused."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store_data import KEY, again, random_bytes
from thinwire.errors import (
    CorruptChunk,
    FormatVersion,
    InvalidArgument,
    NotFound,
    StoreError,
    WrongKey,
)
from thinwire.store.store import Store


@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 3_000_001])
def test_bytes_come_back(store: Store, size: int) -> None:
    data = random_bytes(size)
    ref = store.put("folder/name", data)
    assert (ref.name, ref.version) == ("folder/name", 1)
    for opened in (store, again(store)):
        assert opened.get("folder/name") == data
        out = bytearray(size)
        assert opened.get("folder/name@1", out) is out
        assert out == data


def test_a_store_of_another_key_is_no_replica(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "other", key=b"1" * 16) as other:
        store.put("a", b"x")
        store.sync(other)
        with pytest.raises(InvalidArgument, match=r"other.*another key"):
            again(store, replicas=[other])
    copy = tmp_path / "copy"
    store.sync(copy)
    with again(store) as same, again(store, replicas=[same, copy]) as helped:
        assert helped.get("a") == b"x"


def test_arrays_and_streams_come_back(store: Store, tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(size=(300, 500)).astype(np.float32)
    store.put("array", array)
    out = np.empty_like(array)
    store.get("array", out)
    assert np.array_equal(out, array)
    data = random_bytes(40 << 20)  # more than two blocks
    store.put("stream", io.BytesIO(data))
    assert store.get("stream") == data

    class OnlyRead:
        def __init__(self) -> None:
            self.stream = io.BytesIO(data[:100_000])

        def read(self, size: int) -> bytes:
            return self.stream.read(min(size, 777))

    store.put("pipe", OnlyRead())
    assert store.get("pipe") == data[:100_000]
    file = tmp_path / "file"
    file.write_bytes(data)
    store.put("file", file)
    store.get("file", tmp_path / "restored")
    assert (tmp_path / "restored").read_bytes() == data
    with pytest.raises(NotFound):
        store.put("none", tmp_path / "none")


def test_however_data_comes_it_is_cut_alike(store: Store, tmp_path: Path) -> None:
    data = random_bytes(20 << 20)
    (tmp_path / "file").write_bytes(data)
    store.put("a", data)
    before = store.stats().stored
    store.put("b", io.BytesIO(data))
    store.put("c", tmp_path / "file")
    store.put("d", np.frombuffer(data, np.uint32))
    assert store.stats().stored == before


def test_folders_come_back(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "deep" / "script").write_text("#!/bin/sh\n")
    (root / "deep" / "script").chmod(0o755)
    (root / "deep" / "er" / "large").write_bytes(random_bytes(3 << 20))
    (root / "deep" / "er" / "nothing").write_bytes(b"")
    (root / "link").symlink_to("deep/script")
    (root / "größe").write_text("ü")
    os.utime(root / "größe", ns=(10**18, 10**18))
    store.put("tree", root)
    out = tmp_path / "out"
    store.get("tree", out)

    def listing(folder: Path) -> list[tuple[str, int, bytes | str]]:
        return [
            (
                path.relative_to(folder).as_posix(),
                path.lstat().st_mode,
                str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
            )
            for path in sorted(folder.rglob("*"))
        ]

    assert listing(out) == listing(root)
    assert (out / "größe").stat().st_mtime_ns == 10**18
    with pytest.raises(InvalidArgument, match="Path"):
        store.get("tree")
    with pytest.raises(InvalidArgument, match="exists"):
        store.get("tree", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store", "tree"]


@pytest.mark.parametrize(
    "entries",
    [
        [{"path": "../escape", "kind": "file", "size": 1, "mode": 0o644, "mtime_ns": 0}],
        [{"path": "/absolute", "kind": "file", "size": 1, "mode": 0o644, "mtime_ns": 0}],
        [
            {"path": "link", "kind": "link", "target": "/tmp"},
            {"path": "link/file", "kind": "file", "size": 1, "mode": 0o644, "mtime_ns": 0},
        ],
        [{"path": "", "kind": "folder", "mode": 0o755, "mtime_ns": 0}],
    ],
)
def test_a_tree_writes_nowhere_else(store: Store, tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    with store.writer("tree") as writer:
        writer.commit({"kind": "tree", "files": entries}, writer.add(b"x"))
    with pytest.raises(CorruptChunk, match="not inside"):
        store.get("tree", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_what_fails_half_way_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.put("a", random_bytes(1 << 20))
    for entry in list(store.backend.list("packs/")):
        store.backend.delete(entry.path)
    with pytest.raises(StoreError):
        again(store).get("a", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_versions_names_and_deletion(store: Store) -> None:
    for number in range(3):
        store.put("a/b", b"%d" % number, metadata={"number": number})
    store.put("a/c", b"c")
    assert store.ls() == ["a/b", "a/c"]
    assert store.ls("a/c") == ["a/c"]
    assert [ref.version for ref in store.versions("a/b")] == [1, 2, 3]
    assert (store.get("a/b"), store.get("a/b@1")) == (b"2", b"0")
    assert store.reader("a/b@2").metadata["user"] == {"number": 1}
    store.delete("a/b@3")
    assert store.get("a/b") == b"1"
    with pytest.raises(NotFound):
        store.get("a/b@3")
    store.delete("a/b")
    assert store.ls() == ["a/c"]
    for missing in ("a/b", "a/b@1", "nothing", "a/c@9"):
        with pytest.raises(NotFound, match=missing):
            store.get(missing)
        with pytest.raises(NotFound, match=missing):
            store.delete(missing)
    assert store.put("a/b", b"new").version == 4  # a number never comes again


@pytest.mark.parametrize(
    "data", [3, "text", None, [1], np.zeros((4, 4))[:, ::2]], ids=lambda data: type(data).__name__
)
def test_what_is_no_data_is_refused(store: Store, data: Any) -> None:
    with pytest.raises(InvalidArgument, match="data"):
        store.put("a", data)
    assert store.ls() == []


@pytest.mark.parametrize("out", [bytearray(3), b"12345", 3])
def test_what_cannot_take_the_data_is_refused(store: Store, out: Any) -> None:
    store.put("a", b"12345")
    with pytest.raises(InvalidArgument, match="out"):
        store.get("a", out)


@pytest.mark.parametrize("name", ["", "/a", "a//b", "../a", "a/..", "a b", "ä"])
def test_bad_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidArgument):
        store.put(name, b"data")


def test_wrong_keys_and_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="create=True"):
        Store(tmp_path / "none", create=False)
    Store(tmp_path / "plain").close()
    Store(tmp_path / "secret", passphrase="right").close()
    with pytest.raises(WrongKey):
        Store(tmp_path / "plain", key=KEY)
    for wrong in ({}, {"key": KEY}, {"passphrase": "wrong"}):
        with pytest.raises(WrongKey):
            Store(tmp_path / "secret", **wrong)
    Store(tmp_path / "secret", passphrase="right").close()


def test_an_encrypted_store_shows_neither_data_nor_metadata(tmp_path: Path) -> None:
    with Store(tmp_path, key=KEY) as store:
        store.put("a", b"correct horse battery staple" * 1000, metadata={"author": "Randall"})
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"correct horse", b"Randall", b"author", KEY):
        assert secret not in everything


def test_a_store_of_a_later_release_is_named(tmp_path: Path) -> None:
    Store(tmp_path).close()
    config = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**config, "format": 2}))
    with pytest.raises(FormatVersion, match="format 2"):
        Store(tmp_path)
    for damaged in ("", "[]", "{}", '{"format": 1}'):
        (tmp_path / "store.json").write_text(damaged)
        with pytest.raises(CorruptChunk, match=r"store\.json"):
            Store(tmp_path)


def test_errors_of_the_callers_own_files_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "small").write_bytes(b"a")
    with Store(tmp_path / "store") as store:
        store.put("a", b"data")
        with pytest.raises(NotFound, match=r"writing .*missing/out.*does not exist"):
            store.get("a", Path(tmp_path / "missing" / "out"))
        with pytest.raises(NotFound, match=r"reading .*nothing does not exist"):
            store.put("b", tmp_path / "nothing")

        def fail(*args: object, **options: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "tree" / "small"))

        with monkeypatch.context() as context:
            context.setattr(Path, "read_bytes", fail)
            with pytest.raises(StoreError, match=r"reading .*tree/small: Permission denied; give this user"):
                store.put("b", tmp_path / "tree")
        with monkeypatch.context() as context:
            context.setattr(Path, "replace", fail)
            with pytest.raises(StoreError, match=r"writing .*Permission denied"):
                store.get("a", tmp_path / "out")
        assert store.ls() == ["a"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "tree"]
