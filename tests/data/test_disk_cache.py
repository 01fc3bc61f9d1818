"""Files at URLs, kept on a local disk: a limit, verified content, several processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from thinwire.data import RecordReader, native, remote, write_shards
from thinwire.data.disk_cache import DiskCache
from thinwire.errors import InvalidArgument, Timeout

fsspec = pytest.importorskip("fsspec")

TRAILER = 32
ROWS = np.arange(1000, dtype=np.int64).reshape(10, 100)
URLS = [f"memory://data/{i}.npy" for i in range(5)]


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", 1000)


def fetch(cache: DiskCache, key: str, size: int) -> bytes:
    """A file of this size, filled with the first letter of its key; what the cache does not add to it."""
    return cache.fetch(key, size, lambda file: put(file, key, size)).read_bytes()[:-TRAILER]


def put(file: BinaryIO, key: str, size: int) -> None:
    file.write(key[0].encode() * size)


def held(cache: DiskCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir() if path.is_file())


def test_a_file_is_fetched_once(cache: DiskCache) -> None:
    for _ in range(3):
        assert fetch(cache, "abc", 10) == b"a" * 10
    assert cache.stats() == {"fetched": 1, "fetched_bytes": 10, "thrown_out": 0, "damaged": 0}
    assert fetch(cache, "empty", 0) == b""
    again = DiskCache(cache.folder, 1000)
    assert fetch(again, "abc", 10) == b"a" * 10
    assert again.stats()["fetched"] == 0


def test_what_was_not_used_for_longest_goes(cache: DiskCache) -> None:
    for number, key in enumerate("abcd"):
        fetch(cache, key, 250 - TRAILER)
        os.utime(cache.path_of(key), (number, number))
    assert held(cache) == ["a", "b", "c", "d"]
    another = DiskCache(cache.folder, 1000)
    fetch(another, "a", 250 - TRAILER)
    fetch(another, "e", 300 - TRAILER)
    assert held(cache) == ["a", "d", "e"]
    assert sum(path.stat().st_size for path in cache.folder.iterdir() if path.is_file()) <= 1000


def test_what_is_larger_than_the_limit_is_refused(cache: DiskCache) -> None:
    fetch(cache, "a", 1000 - TRAILER)
    with pytest.raises(InvalidArgument, match="cache_limit is 1000 B"):
        fetch(cache, "b", 1001 - TRAILER)
    assert held(cache) == ["a"]


@pytest.mark.parametrize("at", [0, 9, 10, 14, 20, 41])
def test_damage_is_noticed_and_mended(cache: DiskCache, at: int) -> None:
    fetch(cache, "a", 10)
    path = cache.path_of("a")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    for damaged in (bytes(data), bytes(data[:at]), b""):
        path.write_bytes(damaged)
        another = DiskCache(cache.folder, 1000)
        assert fetch(another, "a", 10) == b"a" * 10
        assert another.stats()["damaged"] == 1


def test_what_comes_short_is_not_kept(cache: DiskCache) -> None:
    with pytest.raises(InvalidArgument, match="3 bytes came, and 10 were announced"):
        cache.fetch("a", 10, lambda file: put(file, "a", 3))
    with pytest.raises(ZeroDivisionError):
        cache.fetch("a", 10, lambda file: 1 // 0)  # type: ignore[arg-type, return-value]
    assert held(cache) == []


def test_old_leftovers_go_and_new_ones_stay(cache: DiskCache) -> None:
    for name, used in ((".tmp-old", 1), (".tmp-new", None)):
        (cache.folder / name).write_bytes(b"x")
        if used:
            os.utime(cache.folder / name, (used, used))
    fetch(cache, "a", 900)
    assert held(cache) == [".tmp-new", "a"]


def test_one_of_several_threads_fetches(cache: DiskCache) -> None:
    writes = []
    begun = threading.Event()

    def write(file: BinaryIO) -> None:
        writes.append(begun.wait(30))
        file.write(b"x" * 10)

    with ThreadPoolExecutor(4) as pool:
        caches = [cache, cache, DiskCache(cache.folder), DiskCache(cache.folder)]
        fetching = [pool.submit(each.fetch, "k", 10, write) for each in caches]
        begun.set()
        assert {each.result() for each in fetching} == {cache.path_of("k")}
    assert len(writes) == 1


def shuffled_rows_are_right(urls: list[str], folder: Path, seed: int) -> bool:
    reader = RecordReader(urls, cache=folder, cache_limit=20_000)
    order = np.random.default_rng(seed).permutation(50).reshape(10, 5)
    rows = np.concatenate([ROWS + i for i in range(len(urls))])
    return bool((np.stack(list(reader.batches(order))) == rows[order]).all())


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    """A limit of two files of five, which all take from all at once."""
    for i in range(5):
        np.save(tmp_path / f"{i}.npy", ROWS + i)
    urls = [f"file://{tmp_path}/{i}.npy" for i in range(5)]
    work = partial(shuffled_rows_are_right, urls, tmp_path / "cache")
    with ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as processes:
        assert list(processes.map(work, range(3), timeout=60)) == [True] * 3
    files = [each for each in (tmp_path / "cache").iterdir() if each.is_file()]
    assert len(files) <= 2


@pytest.fixture
def urls() -> Iterator[list[str]]:
    fs = fsspec.filesystem("memory")
    for i, url in enumerate(URLS):
        with fs.open(url, "wb") as file:
            np.save(file, ROWS + 1000 * i)
    yield URLS
    fs.rm("/data", recursive=True)


def test_a_reader_fetches_what_it_reads(urls: list[str], tmp_path: Path) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache")
    assert len(reader) == 50
    assert reader.report().cache == {"fetched": 0, "fetched_bytes": 0, "thrown_out": 0, "damaged": 0}
    np.testing.assert_array_equal(reader.read([11, 12]), ROWS[[1, 2]] + 1000)
    assert reader.report().cache["fetched"] == 1  # type: ignore[index]
    everything = np.concatenate([ROWS + 1000 * i for i in range(5)])
    order = np.random.default_rng(0).permutation(50).reshape(10, 5)
    np.testing.assert_array_equal(np.stack(list(reader.batches(order))), everything[order])
    assert reader.report().cache["fetched"] == 5  # type: ignore[index]


def test_a_cache_for_one_file_serves_five(urls: list[str], tmp_path: Path) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache", cache_limit=9000)
    everything = np.concatenate([ROWS + 1000 * i for i in range(5)])
    order = np.random.default_rng(0).permutation(50).reshape(5, 10)
    np.testing.assert_array_equal(np.stack(list(reader.batches(order))), everything[order])
    assert reader.report().cache["thrown_out"] >= 4  # type: ignore[index]


def throw_out(folder: Path, monkeypatch: Any, times: int) -> list[int]:
    """Have another process throw out all files whenever they have been fetched, so many times."""
    fetch, done = remote.RemoteFiles.fetch, [0]

    def fetch_in_vain(self: remote.RemoteFiles, files: Any) -> None:
        fetch(self, files)
        if done[0] < times:
            done[0] += 1
            for each in folder.iterdir():
                if each.is_file():
                    each.unlink()

    monkeypatch.setattr(remote.RemoteFiles, "fetch", fetch_in_vain)
    return done


def test_files_that_others_throw_out_are_fetched_until_they_are_read(
    urls: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache")
    done = throw_out(tmp_path / "cache", monkeypatch, 50)
    np.testing.assert_array_equal(reader.read([11, 32]), ROWS[[1, 2]] + [[1000], [3000]])
    assert done == [50]


def test_files_that_are_always_thrown_out(urls: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(native, "_STALLED_S", 0.01)
    reader = RecordReader(urls, cache=tmp_path / "cache")
    throw_out(tmp_path / "cache", monkeypatch, 10**9)
    with pytest.raises(Timeout, match=r"2 records.* attempts; .* a larger cache_limit"):
        reader.read([11, 32])


def test_a_local_file_that_vanishes_beside_remote_ones(urls: list[str], tmp_path: Path) -> None:
    local = tmp_path / "local.npy"
    np.save(local, ROWS)
    reader = RecordReader([local, urls[0]], cache=tmp_path / "cache")
    local.unlink()
    with pytest.raises(FileNotFoundError, match=r"local\.npy"):
        reader.read([1, 12])


def test_lines_and_shards_at_urls(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    (path,) = write_shards([b"one", b"three"], tmp_path)
    fs.pipe("/more/x.tws", path.read_bytes())
    fs.pipe("/more/x.txt", b"one\nthree\n")
    for url in ("memory://more/x.tws", "memory://more/x.txt"):
        reader = RecordReader(url, cache=tmp_path / "cache")
        assert [bytes(record) for record in reader] == [b"one", b"three"]
    fs.rm("/more", recursive=True)


def test_another_version_is_another_file(urls: list[str], tmp_path: Path) -> None:
    old = RecordReader(urls[0], cache=tmp_path / "cache")
    older = RecordReader(urls[0], cache=tmp_path / "other")
    np.testing.assert_array_equal(old.read([1]), ROWS[[1]])
    fs = fsspec.filesystem("memory")
    with fs.open(urls[0], "wb") as file:
        np.save(file, -ROWS)
    np.testing.assert_array_equal(RecordReader(urls[0], cache=tmp_path / "cache").read([1]), -ROWS[[1]])
    np.testing.assert_array_equal(old.read([1]), ROWS[[1]])
    with pytest.raises(InvalidArgument, match=r"0\.npy was changed since"):
        older.read([1])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="memory://nothing"):
        RecordReader("memory://nothing/x.npy", cache=tmp_path)
    with pytest.raises(InvalidArgument, match="no-such-protocol"):
        RecordReader("no-such-protocol://x.npy", cache=tmp_path)


def test_a_file_that_vanished_at_its_url(urls: list[str], tmp_path: Path) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache")
    fsspec.filesystem("memory").rm("/data/3.npy")
    with pytest.raises(FileNotFoundError, match=r"3\.npy"):
        reader.read([30])
    np.testing.assert_array_equal(reader.read([1]), ROWS[[1]])


def test_errors_of_clients_name_the_url(urls: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache")

    def fail(*_: Any) -> Any:
        raise RuntimeError("the client's own")

    monkeypatch.setattr(remote.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match=r"RuntimeError: the client's own.*0\.npy"):
        reader.read([1])


def test_stopping_cancels_what_is_only_announced(urls: list[str], tmp_path: Path) -> None:
    reader = RecordReader(urls, cache=tmp_path / "cache")
    order = np.arange(50).reshape(50, 1)
    batches = reader.batches(order, prefetch=0)
    next(batches)
    batches.close()
    np.testing.assert_array_equal(
        np.concatenate(list(reader.batches(order))).ravel() % 1000, np.tile(np.arange(1000), 5)
    )
