"""A store as its users see it: what goes in comes out, once, and beside others."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faulty_backend import FaultyBackend
from thinwire.errors import (
    Conflict,
    CorruptChunk,
    FormatVersion,
    InvalidArgument,
    NotFound,
    StoreError,
    WrongKey,
)
from thinwire.store import leases, pack
from thinwire.store.store import Store

KEY = b"0123456789abcdef"


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture(params=["plain", "encrypted"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", key=KEY if request.param == "encrypted" else None, threads=2) as made:
        yield made


def again(store: Store, **options: Any) -> Store:
    """The same store, opened anew."""
    key = KEY if store.catalog.keys.encrypted else None
    return Store(store.backend, key=key, create=False, threads=2, **options)


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


def test_equal_chunks_are_kept_once(store: Store) -> None:
    data = random_bytes(2 << 20)
    with store.writer("a") as writer:
        chunks = writer.add(data + data, "fixed")
        again_ = writer.add(data, "fixed")
        writer.commit({"kind": "bytes"}, np.concatenate([chunks, again_]))
        assert writer.new_bytes == len(data)
    with store.writer("b") as writer:
        writer.commit({"kind": "bytes"}, writer.add(data, "fixed"))
        assert writer.new_bytes == 0
    stats = store.stats()
    assert (stats.logical, stats.unique) == (4 * len(data), len(data))
    assert len(data) < stats.stored < 1.01 * len(data)
    assert stats.dedup_ratio == 4
    assert store.get("a") == data * 3


def test_packs_are_about_as_long_as_they_should_be(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("random", random_bytes(150 << 20))
        sizes = sorted(entry.size for entry in store.backend.list("packs/"))
        assert len(sizes) == 3
        assert sizes[1] <= 67 << 20


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


def test_expect_is_a_compare_and_swap(store: Store) -> None:
    assert store.put("a", b"1", expect=0).version == 1
    assert store.put("a", b"2", expect=1).version == 2
    for expect in (0, 1, 3):
        with pytest.raises(Conflict):
            store.put("a", b"3", expect=expect)
    assert store.get("a") == b"2"


def test_of_many_at_once_one_gets_what_it_expects(tmp_path: Path) -> None:
    with Store(tmp_path, threads=2) as store:
        won, lost = [], []

        def put(number: int) -> None:
            try:
                won.append(store.put("a", b"%d" % number, expect=0))
            except Conflict:
                lost.append(number)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1
        assert len(won) + len(lost) == 6
        assert len(store.versions("a")) == len(won)


def test_threads_may_share_a_store(store: Store) -> None:
    def work(number: int) -> None:
        data = random_bytes(300_000, number % 3)
        for _ in range(3):
            store.put(f"name{number}", data)
            assert store.get(f"name{number}") == data

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(store.versions(f"name{number}")) for number in range(4)] == [3] * 4
    assert store.verify()


def test_processes_may_share_a_store(store: Store, tmp_path: Path) -> None:
    if store.catalog.keys.encrypted:
        pytest.skip("once is enough")
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from thinwire.store.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for i in range(5): store.put('shared', np.random.default_rng(i).bytes(200_000))\n"
        "store.close()\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "store")]
    others = [subprocess.Popen(arguments) for _ in range(3)]
    assert [other.wait(120) for other in others] == [0, 0, 0]
    assert len(store.versions("shared")) == 15
    assert store.verify()
    assert {store.get(f"shared@{v}") for v in range(1, 16)} == {random_bytes(200_000, i) for i in range(5)}


def test_parts_can_be_read_alone(store: Store) -> None:
    data = random_bytes(1_000_000)
    ends = np.array([10, 300_000, 300_001, 1_000_000])
    with store.writer("a") as writer:
        writer.commit({"any": "thing"}, writer.add(data, ends))
    reader = again(store).reader("a")
    assert reader.metadata == {"any": "thing"}
    assert reader.chunks["size"].tolist() == [10, 299_990, 1, 699_999]
    first, rest = bytearray(10), bytearray(700_000)
    reader.read_into([((0, 1), first), (slice(2, None), rest)])
    assert (first, rest) == (data[:10], data[300_000:])
    with pytest.raises(InvalidArgument, match="11 bytes"):
        reader.read_into([((0, 1), bytearray(11))])
    with pytest.raises(InvalidArgument, match="read-only"):
        reader.read_into([((0, 1), bytes(10))])
    assert b"".join(map(bytes, reader.windows(300_000))) == data


def test_a_writer_that_leaves_without_commit_leaves_nothing_to_see(store: Store) -> None:
    with store.writer("a") as writer:
        writer.add(random_bytes(100_000))
    with pytest.raises(InvalidArgument), store.writer("a") as writer:
        writer.commit({}, writer.add(random_bytes(100_000))[[0, 0]].view(np.uint8))
    assert store.ls() == []


def test_a_writer_that_failed_or_ended_does_nothing_more() -> None:
    backend = FaultyBackend()

    def fail(operation: str, path: str) -> None:
        if operation == "create" and path.startswith(("packs/", "index/")):
            raise StoreError("no space is left")

    with Store(backend, threads=1) as store:
        with store.writer("a") as writer:
            chunks = writer.add(random_bytes(100_000))
            backend.before = fail
            with pytest.raises(StoreError, match="no space"):
                writer.flush()
            backend.before = lambda operation, path: None
            for call in (writer.flush, lambda: writer.add(b"x"), lambda: writer.commit({}, chunks)):
                with pytest.raises(InvalidArgument, match="failed before"):
                    call()
        with store.writer("a") as writer:
            chunks = writer.add(random_bytes(100_000))
            writer.commit({}, chunks)
            with pytest.raises(InvalidArgument, match="has ended"):
                writer.commit({}, chunks)
        assert len(store.versions("a")) == 1


def test_a_writer_takes_only_chunks_that_are_there(store: Store) -> None:
    with store.writer("a") as writer:
        chunks = writer.add(random_bytes(100_000))
        chunks["id"][0] ^= 1
        with pytest.raises(InvalidArgument, match="did not add"):
            writer.commit({}, chunks)


@pytest.mark.parametrize(
    "ends", [[0, 10], [5], [5, 4, 10], [5, 5, 10], [-1, 10], [11], []], ids=lambda ends: str(ends)
)
def test_bad_cuts_are_refused(store: Store, ends: list[int]) -> None:
    with store.writer("a") as writer, pytest.raises(InvalidArgument, match="cuts"):
        writer.add(b"0123456789", np.array(ends, np.int64))


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


def test_garbage_goes_and_the_rest_stays(store: Store) -> None:
    blobs = [random_bytes(400_000, seed) for seed in range(6)]
    for number in range(6):
        store.put("grows", b"".join(blobs[: number + 1]))
    store.put("mixed", blobs[0] + random_bytes(3_000_000, 9) + blobs[5])
    store.put("mixed", blobs[5])
    for name in ("grows@1", "grows@6", "mixed@1"):
        store.delete(name)
    reader = again(store)
    assert reader.get("grows@2") == b"".join(blobs[:2])
    done = store.gc(wait_s=5)
    assert done.packs > 0
    stats = store.stats()
    assert stats.garbage < 0.5 * stats.stored
    assert store.verify()
    for opened in (store, reader, again(store)):  # also one whose index is an old one
        assert opened.get("grows") == b"".join(blobs[:5])
        assert opened.get("mixed") == blobs[5]
    store.delete("grows")
    store.delete("mixed")
    store.gc(wait_s=5)
    assert store.stats().stored == 0


def test_a_second_copy_of_a_chunk_serves_when_the_first_has_gone(store: Store) -> None:
    data = random_bytes(500_000)
    one, other = again(store).writer("a"), again(store).writer("b")
    with one, other:  # neither sees what the other has not published
        one.commit({"kind": "bytes"}, one.add(data))
        other.commit({"kind": "bytes"}, other.add(data))
    packs = [entry.path for entry in store.backend.list("packs/")]
    assert len(packs) == 2
    for path in packs:
        kept = store.backend.read(path)
        store.backend.delete(path)
        assert again(store).get("a") == again(store).get("b") == data
        store.backend.create(path, [kept])


def test_nothing_is_built_on_packs_that_are_gone_or_condemned(store: Store) -> None:
    data = random_bytes(500_000)
    store.put("a", data)
    (entry,) = store.backend.list("packs/")
    leases.condemn(store.backend, "0" * 32, {pack.pack_id_of(entry.path)})
    for _ in range(2):
        with store.writer("b") as writer:
            writer.commit({"kind": "bytes"}, writer.add(data))
            assert writer.new_bytes == len(data)
        for other in list(store.backend.list("packs/")):
            store.backend.delete(other.path)


def test_packs_that_no_segment_names_are_found(store: Store) -> None:
    data = random_bytes(500_000)
    store.put("a", data)
    for entry in list(store.backend.list("index/")):
        store.backend.delete(entry.path)
    assert again(store).get("a") == data


def test_many_segments_become_one(store: Store) -> None:
    for number in range(20):
        store.put("a", random_bytes(1000, number))
    store.delete("a@7")
    store.gc(wait_s=5)
    assert len(list(store.backend.list("index/"))) == 1
    assert store.get("a@8") == random_bytes(1000, 7)


def test_sync_sends_what_is_missing_and_keeps_numbers(store: Store, tmp_path: Path) -> None:
    data = [random_bytes(1_000_000, seed) for seed in range(3)]
    store.put("a", data[0])
    store.put("a", data[0] + data[1])
    done = store.sync(tmp_path / "copy")
    assert (done.versions, done.sent) == (2, store.stats().unique)
    store.put("a", data[0] + data[1] + data[2])
    store.delete("a@1")
    done = store.sync(tmp_path / "copy")
    assert done.versions == 1
    assert done.sent < 1_200_000
    assert not store.sync(tmp_path / "copy").versions
    key = KEY if store.catalog.keys.encrypted else None
    with Store(tmp_path / "copy", key=key, create=False) as copy:
        assert copy.get("a@3") == b"".join(data)
        assert copy.get("a@1") == data[0]
        assert copy.verify()
        copy.put("a", b"other")
        store.put("a", b"another")
        assert store.sync(copy).conflicts == ["a@4"]


def test_sync_goes_between_stores_with_other_keys(store: Store, tmp_path: Path) -> None:
    data = random_bytes(1_000_000)
    store.put("a", data + data)
    with Store(tmp_path / "other", passphrase="x") as other:
        assert store.sync(other).versions == 1
        assert other.get("a") == data + data
        assert store.sync(other).versions == 0
        with pytest.raises(InvalidArgument, match="another store"):
            store.sync(tmp_path / "other")


def test_a_sync_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinwire.store import reader, syncing

    monkeypatch.setattr(syncing, "BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(syncing, "FLUSH_BYTES", 2 << 20)
    assert reader.BATCH_BYTES > 1 << 20
    backend = FaultyBackend()
    data = random_bytes(8 << 20)
    with Store(tmp_path) as store, Store(backend) as other:
        store.put("a", data)

        def fail(operation: str, path: str) -> None:
            if operation == "create" and path.startswith("index/") and len(backend.paths("index")) == 2:
                raise StoreError("the line is cut")

        backend.before = fail
        with pytest.raises(StoreError, match="cut"):
            store.sync(other)
        backend.before = lambda operation, path: None
        assert other.ls() == []
        assert store.sync(other).sent < 5 << 20
        assert other.get("a") == data


def test_a_cache_saves_reading_twice(tmp_path: Path) -> None:
    backend = FaultyBackend()
    data = random_bytes(3_000_000)
    Store(backend).put("a", data)
    with Store(backend, cache=tmp_path) as store:
        assert store.get("a") == data
        backend.reads.clear()
        assert store.get("a") == data
        assert not any(path.startswith("packs/") for path in backend.reads)
        for path in tmp_path.rglob("packs/*/*"):
            changed = bytearray(path.read_bytes())
            changed[len(changed) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(changed)
        assert store.get("a") == data  # from the slow place
        assert store.get("a") == data


def test_the_number_of_open_threads_goes_back(tmp_path: Path) -> None:
    before = threading.active_count()
    with Store(tmp_path) as store:
        store.put("a", random_bytes(100_000))
    assert threading.active_count() == before
