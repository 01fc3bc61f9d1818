"""Chunks in a store: each is kept once, found wherever it is, and gone when nothing needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faulty_backend import FaultyBackend
from store_data import again, random_bytes
from thinwire.errors import InvalidArgument, StoreError
from thinwire.store import leases, pack
from thinwire.store.store import Store


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
