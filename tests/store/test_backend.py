"""Every backend keeps the same promises: whole objects, created once, errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at_once import at_once
from store_world import MemoryBackend
from thinwire.errors import Conflict, CorruptChunk, NotFound, StoreError
from thinwire.store.backend import Backend, Entry, backend_for
from thinwire.store.local import LocalBackend


@pytest.fixture(params=["dict", "folder", "file", "memory", "s3", "single-writer"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "dict":
        return MemoryBackend()
    if request.param == "folder":
        return backend_for(tmp_path / "deep" / "store")
    if request.param == "file":
        return backend_for(f"file://{tmp_path}/store")
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'thinwire[store]'")
    if request.param == "s3":
        return backend_for(f"s3://bucket/{request.node.name}", **request.getfixturevalue("s3"))
    if request.param == "memory":
        return backend_for(f"memory://{tmp_path}")
    return backend_for(f"dir::file://{tmp_path}/single", single_writer=True)


def test_an_object_is_the_sum_of_its_parts(backend: Backend) -> None:
    array = np.arange(3, dtype=np.uint8)
    backend.create("a/b", [b"one", bytearray(b"two"), memoryview(array.data), b""])
    assert backend.read("a/b") == b"onetwo\x00\x01\x02"
    assert backend.read("a/b", 3) == b"two\x00\x01\x02"
    assert backend.read("a/b", 1, 3) == b"net"
    assert backend.read("a/b", 1, 0) == b""
    memory = bytearray(4)
    backend.read_into("a/b", 2, memory)
    assert memory == b"etwo"


def test_an_object_is_created_once(backend: Backend) -> None:
    backend.create("a", [b"first"])
    with pytest.raises(Conflict, match="a is there already"):
        backend.create("a", [b"second"])
    assert backend.read("a") == b"first"


def test_of_many_who_create_one_object_one_succeeds(backend: Backend) -> None:
    if "single" in str(backend):
        pytest.skip("a single writer has no company")
    won: list[int] = []

    def create(number: int) -> None:
        try:
            backend.create("contended", [b"%d" % number])
            won.append(number)
        except Conflict:
            pass

    at_once(create, 8)
    assert [backend.read("contended")] == [b"%d" % number for number in won]


def test_a_listing_holds_the_objects_below_a_folder(backend: Backend) -> None:
    for path in ("x/1", "x/y/2", "xy/3", "z"):
        backend.create(path, [path.encode()])
    assert sorted(backend.list("x/")) == [Entry("x/1", 3), Entry("x/y/2", 5)]
    assert {entry.path for entry in backend.list("")} >= {"x/1", "x/y/2", "xy/3", "z"}
    assert list(backend.list("nothing/")) == []


def test_a_listing_shows_what_another_has_changed(backend: Backend, tmp_path: Path) -> None:
    backend.create("x/1", [b""])
    assert len(list(backend.list("x/"))) == 1
    backend.create("x/2", [b""])
    backend.delete("x/1")
    assert list(backend.list("x/")) == [Entry("x/2", 0)]


def test_what_is_deleted_is_gone_and_may_be_deleted_again(backend: Backend) -> None:
    backend.create("a", [b"1"])
    assert backend.exists("a")
    backend.delete("a")
    backend.delete("a")
    assert not backend.exists("a")
    with pytest.raises(NotFound, match="a"):
        backend.read("a")
    with pytest.raises(NotFound, match="a"):
        backend.age("a")


def test_a_read_past_the_end_is_damage(backend: Backend) -> None:
    backend.create("a", [b"12345"])
    with pytest.raises(CorruptChunk, match=r"a ends at byte 5, 2 bytes too early"):
        backend.read("a", 3, 4)
    with pytest.raises(CorruptChunk, match="a ends"):
        backend.read_into("a", 3, bytearray(4))


def test_ages_are_small_and_not_negative(backend: Backend) -> None:
    backend.create("a", [b""])
    assert 0 <= backend.age("a") < 60


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "a\0b", "a b"])
def test_a_path_that_leads_elsewhere_is_refused(backend: Backend, path: str) -> None:
    for work in (backend.read, backend.delete, lambda path: backend.create(path, [b""])):
        with pytest.raises(StoreError, match="no path inside a store"):
            work(path)


def test_mapped_memory_is_the_object(backend: Backend) -> None:
    backend.create("a", [b"12345"])
    backend.create("empty", [])
    mapped = backend.map("a")
    if not isinstance(backend, LocalBackend):
        assert mapped is None
        return
    assert mapped is not None
    assert mapped.readonly
    assert bytes(mapped) == b"12345"
    assert backend.map("empty") == b""


def test_a_filesystem_that_overwrites_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    backend = backend_for(f"dir::file://{tmp_path}")
    with pytest.raises(StoreError, match="single_writer=True"):
        backend.create("a", [b"1"])
    assert list(backend.list("")) == []


def test_a_filesystem_that_says_yes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")
    put = memory.MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        memory.MemoryFileSystem,
        "pipe_file",
        lambda self, path, value, mode="overwrite": put(self, path, value),
    )
    with pytest.raises(StoreError, match="would overwrite each other"):
        backend_for("memory://twice").create("a", [b"1"])


def test_a_create_whose_answer_was_lost_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library asks again, and hears that the object is there."""
    memory = pytest.importorskip("fsspec.implementations.memory")
    backend = backend_for("memory://lost")
    backend.create("before", [b""])  # the filesystem has been tried out
    put = memory.MemoryFileSystem.pipe_file

    def twice(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        put(self, path, value, mode=mode)
        put(self, path, value, mode=mode)

    monkeypatch.setattr(memory.MemoryFileSystem, "pipe_file", twice)
    backend.create("a", [b"1"])
    assert backend.read("a") == b"1"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("no connection for bucket/packs/41/412a6f412"), StoreError),
        (RuntimeError("timeout: PUT /refs/run/412/00000000000000000412"), StoreError),
        (RuntimeError("an error has occurred (PreconditionFailed) at packs/1"), Conflict),
        (OSError("At least one of the pre-conditions you specified did not hold., 412"), Conflict),
    ],
)
def test_a_code_is_no_part_of_a_path(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[StoreError]
) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")
    backend = backend_for(f"memory://codes/{len(str(error))}")
    backend.create("a", [b"another's"])

    def fail(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        raise error

    monkeypatch.setattr(memory.MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(StoreError) as caught:
        backend.create("a", [b"1"])
    assert type(caught.value) is expected


def test_probes_leave_nothing_behind() -> None:
    pytest.importorskip("fsspec")
    backend = backend_for("memory://clean")
    backend.create("a", [b""])
    backend.age("a")
    assert list(backend.list("")) == [Entry("a", 0)]
    backend.create("probes/left", [b""])
    backend.tidy(3600)
    assert backend.exists("probes/left")
    backend.tidy(-1)
    assert not backend.exists("probes/left")


def test_a_url_that_nobody_knows_is_refused() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(StoreError, match="nosuch"):
        backend_for("nosuch://place")
