"""A store does the same wherever it lies: in a folder, in memory, in an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from at_once import at_once
from store_data import random_bytes
from thinwire.errors import Conflict, CorruptChunk, NotFound
from thinwire.store.backend import Backend, backend_for
from thinwire.store.store import Store

Places = Callable[[str], Backend]


@pytest.fixture(params=["folder", "memory", "s3"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Places by name, new for each test."""
    options: dict[str, Any] = {}
    root = str(tmp_path)
    if request.param != "folder":
        pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'thinwire[store]'")
        root = f"memory://{tmp_path}"
    if request.param == "s3":
        options = request.getfixturevalue("s3")
        root = f"s3://bucket/{request.node.name}"
    return lambda name: backend_for(f"{root}/{name}", **options)


@pytest.fixture
def store(places: Places) -> Iterator[Store]:
    with Store(places("store"), threads=2) as store:
        yield store


def test_versions_come_and_go(store: Store, places: Places) -> None:
    data = random_bytes(200_000)
    store.put("a/b", data, expect=0)
    store.put("a/b", data + data)
    with pytest.raises(Conflict):
        store.put("a/b", b"", expect=1)
    with Store(places("store"), create=False, threads=2) as other:
        assert other.ls() == ["a/b"]
        assert [ref.version for ref in other.versions("a/b")] == [1, 2]
        assert (other.get("a/b@1"), other.get("a/b")) == (data, data + data)
        other.delete("a/b@2")
    assert store.get("a/b") == data
    with pytest.raises(NotFound):
        store.get("a/b@2")
    with pytest.raises(NotFound):
        Store(places("nothing"), create=False)


def test_garbage_goes_and_damage_is_mended(store: Store, places: Places) -> None:
    data = [random_bytes(100_000, seed) for seed in range(2)]
    store.put("a", data[0])
    store.put("a", data[1])
    store.sync(places("copy"))
    assert not store.sync(places("copy")).versions
    store.delete("a@1")
    assert store.gc(wait_s=10).packs == 1
    assert store.verify()
    (entry,) = store.backend.list("packs/")
    store.backend.delete(entry.path)
    store.backend.create(entry.path, [bytes(entry.size)])
    assert not store.verify()
    with pytest.raises(CorruptChunk):
        store.get("a")
    with Store(places("store"), replicas=[places("copy")], threads=2) as helped:
        assert helped.get("a") == data[1]
        assert helped.repair()
    assert store.get("a") == data[1]


def test_two_write_at_once(store: Store, places: Places) -> None:
    with Store(places("store"), threads=2) as other:

        def write(number: int) -> None:
            for seed in range(2):
                (store, other)[number].put("shared", random_bytes(50_000, 2 * seed + number))

        at_once(write, 2)
        assert [ref.version for ref in other.versions("shared")] == [1, 2, 3, 4]
        found = {store.get(f"shared@{version}") for version in range(1, 5)}
        assert found == {random_bytes(50_000, seed) for seed in range(4)}


def test_packs_lie_in_another_place_too(places: Places) -> None:
    with Store(places("home"), threads=2, locations=[places("other")]) as store:
        store.add_location(places("home"), weight=0)
        store.put("a", random_bytes(50_000))
        assert [len(found.packs) for found in store.locations()] == [0, 1]
    with Store(places("home"), threads=2, locations=[places("other")], create=False) as store:
        assert store.get("a") == random_bytes(50_000)
        assert store.verify()


def test_checkpoints_are_saved_and_loaded(store: Store) -> None:
    torch = pytest.importorskip("torch")
    from thinwire.store.checkpoint import Checkpointer

    saver = Checkpointer(store, keep_last=1)
    state = {"x": torch.arange(100_000, dtype=torch.float32), "step": 1}
    saver.save(state, 1)
    state["x"][7] = -1
    saver.save(state, 2, blocking=False).wait_durable()
    loaded = Checkpointer(store).load()
    assert torch.equal(loaded["x"], state["x"])
    assert saver.steps() == [2]
