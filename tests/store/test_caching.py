"""A fast disk before a slow place: it saves reading, it is never believed, and it stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from at_once import at_once
from faulty_backend import FaultyBackend
from store_data import random_bytes
from thinwire.errors import InvalidArgument, StoreError
from thinwire.store.caching import CachedBackend
from thinwire.store.store import Store


def reads(backend: FaultyBackend) -> list[str]:
    """What was read of packs, index and manifests since the last time."""
    found = [path for path in backend.reads if path.startswith(("packs/", "index/", "manifests/"))]
    backend.reads.clear()
    return found


def flip(path: Path) -> None:
    """Damage a file in its middle."""
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(changed)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*/*") if path.is_file()]


def test_what_was_read_or_written_is_not_read_again(tmp_path: Path) -> None:
    backend, data = FaultyBackend(), random_bytes(3_000_000)
    Store(backend).put("a", data)
    with Store(backend, cache=tmp_path) as store:
        store.put("b", data[:1000] + data)
    with Store(backend, cache=tmp_path) as store:
        assert store.get("a") == data
        assert reads(backend)
        assert store.get("a") == data
        assert store.get("b") == data[:1000] + data
    with Store(backend, cache=tmp_path) as store:
        assert store.get("a") == data
        assert reads(backend) == []


def test_damage_in_the_cache_hurts_nobody(tmp_path: Path) -> None:
    backend, data = FaultyBackend(), random_bytes(3_000_000)
    with Store(backend, cache=tmp_path) as store:
        store.put("a", data)
    for damage in (flip, lambda path: path.write_bytes(b"cut off")):
        for path in files(tmp_path):
            path.chmod(0o600)
            damage(path)
        with Store(backend, cache=tmp_path) as store:
            assert store.get("a") == data  # from the slow place
            reads(backend)
            assert store.get("a") == data
            assert reads(backend) == []
            for path in files(tmp_path):
                path.unlink()
            assert store.get("a") == data


def test_verify_and_repair_look_at_the_store_itself(tmp_path: Path) -> None:
    backend, data = FaultyBackend(), random_bytes(300_000)
    with Store(backend, cache=tmp_path) as store:
        store.put("a", data)
        for kind in ("packs", "index", "manifests"):
            (path,) = backend.paths(kind)
            sound = backend.objects[path]
            backend.objects[path] = (sound[0][:-100] + bytes(100), 0.0)
            assert store.get("a") == data  # which the cache has
            assert any(path in damage.what for damage in store.verify().damage)
            assert any(damage.hits for damage in store.verify().damage) == (kind != "index")
            backend.objects[path] = sound
            assert store.verify()
        del backend.objects[backend.paths("index")[0]]
        assert store.repair()
        assert store.get("a") == data


def test_the_cache_stays_within_its_limit(tmp_path: Path) -> None:
    backend = FaultyBackend()
    with Store(backend, cache=tmp_path, cache_limit="1MiB") as store:
        for number in range(12):
            store.put("a", random_bytes(200_000, number))
            store.get("a@1")  # used all the time
            assert sum(path.stat().st_size for path in files(tmp_path)) < 1.1 * (1 << 20)
        reads(backend)
        assert store.get("a@1") == random_bytes(200_000, 0)
        assert reads(backend) == []
        assert store.get("a@2") == random_bytes(200_000, 1)
        assert reads(backend) != []
        store.put("large", random_bytes(3 << 20))
        assert store.get("large") == random_bytes(3 << 20)
    with Store(backend, cache=tmp_path, cache_limit=0) as store:
        assert store.get("a") == random_bytes(200_000, 11)
        assert files(tmp_path) == []


def test_of_many_who_want_an_object_one_fetches_it(tmp_path: Path) -> None:
    backend = FaultyBackend()
    backend.create("packs/ab/cd", [b"pack"])
    cached = CachedBackend(backend, tmp_path)

    def read(number: int) -> None:
        assert cached.read("packs/ab/cd", number % 4, 1) == b"pack"[number % 4 :][:1]

    at_once(read, 8)
    assert backend.reads == ["packs/ab/cd"]


def test_what_a_collection_deletes_leaves_the_cache(tmp_path: Path) -> None:
    backend = FaultyBackend()
    with Store(backend, cache=tmp_path) as store:
        store.put("a", random_bytes(100_000, 1))
        store.put("b", random_bytes(100_000, 2))
        store.delete("a")
        with Store(backend) as other:  # which knows nothing of the cache
            other.gc(wait_s=0)
        store.delete("b")
        store.put("b", random_bytes(100_000, 3))
        store.gc(wait_s=0)
        kept = {path.relative_to(tmp_path).as_posix() for path in files(tmp_path)}
        assert kept <= set(backend.objects)
        assert store.get("b") == random_bytes(100_000, 3)


def test_a_folder_of_a_store_is_no_cache(tmp_path: Path) -> None:
    Store(tmp_path / "store", locations=[tmp_path / "location"]).close()
    for folder in ("store", "location"):
        with pytest.raises(InvalidArgument, match="belongs to a store"):
            Store(FaultyBackend(), cache=tmp_path / folder)
    with pytest.raises(InvalidArgument, match="cache_limit"):
        Store(FaultyBackend(), cache=tmp_path / "cache", cache_limit="much")


@pytest.mark.parametrize("limit", [None, 1])
def test_a_cache_that_fails_hurts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """Its disk can be gone, full or read-only: all goes on from the slow place."""
    backend, data = FaultyBackend(), random_bytes(100_000)
    with Store(backend, cache=tmp_path, cache_limit=limit) as store:
        store.put("a", data)

        def fail(*args: object) -> None:
            raise StoreError("the disk is gone")

        for name in ("create", "read", "read_into", "list", "delete", "tidy"):
            monkeypatch.setattr(store.catalog.backend._fast, name, fail)
        store.put("b", data[:1000])
        assert store.get("a") == data
        store.delete("b")
        assert store.gc(wait_s=0).packs == 1
        assert store.verify()
