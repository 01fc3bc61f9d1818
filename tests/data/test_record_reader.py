"""RecordReader: the right records in the right order, memory that stays, and an end whenever one stops."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import pickle
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire import HostPool, _core
from thinwire.data import NamedBatch, RaggedBatch, RecordReader, write_shards
from thinwire.data.native import NativeFiles
from thinwire.errors import InvalidArgument

ROWS = np.arange(400, dtype=np.int32).reshape(100, 4)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three files of 100 records in all."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, part in zip("abc", np.split(ROWS, [50, 50]), strict=True):
        np.save(folder / f"{name}.npy", part)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A line for each of 100 numbers, of many lengths."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i}" * (i % 7) + "\n" for i in range(100)))
    return path


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    batches=st.lists(st.lists(st.integers(0, 10**9), max_size=12), max_size=12),
    prefetch=st.one_of(st.none(), st.integers(0, 6)),
    fixed=st.booleans(),
)
def test_every_batch_is_what_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[int],
    batches: list[list[int]],
    prefetch: int | None,
    fixed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    total = sum(counts)
    numbers = iter(range(total))
    for file, count in enumerate(counts):
        values = list(itertools.islice(numbers, count))
        if fixed:
            np.array(values, np.int16).tofile(folder / f"{file}.bin")
        else:
            (folder / f"{file}.bin").write_text("".join(f"{value}" * (value % 5) + "\n" for value in values))
    reader = RecordReader(folder, dtype=np.int16) if fixed else RecordReader(folder, format="lines")
    asked = [[i % total for i in batch] if total else [] for batch in batches]
    got = list(reader.batches(asked, prefetch=prefetch))
    if fixed:
        assert [batch.tolist() for batch in got] == asked
    else:
        texts = [[bytes(line).decode() for line in batch] for batch in got]
        assert texts == [[f"{i}" * (i % 5) for i in batch] for batch in asked]
    reader.close()


def test_all_records_in_order(rows: Path) -> None:
    reader = RecordReader(rows)
    np.testing.assert_array_equal(np.stack(list(reader)), ROWS)
    assert [len(batch) for batch in reader.batches(batch_size=32)] == [32, 32, 32, 4]
    np.testing.assert_array_equal(reader[-1], ROWS[-1])
    report = reader.report()
    assert (report.records, report.batches, report.skipped) == (201, 6, 0)
    assert "201 records" in str(report)
    assert report.as_dict()["faults"] == []


def test_samplers_of_all_kinds(rows: Path) -> None:
    reader = RecordReader(rows)
    for batch in ([3, 1], (3, 1), np.array([3, 1], np.int32), np.array([3, 9, 1])[::2], range(3, 0, -2)):
        np.testing.assert_array_equal(next(iter(reader.batches([batch]))), ROWS[[3, 1]])
    singles = iter(reader.batches(iter([5, 6, 7]), batch_size=2))
    np.testing.assert_array_equal(next(singles), ROWS[[5, 6]])
    np.testing.assert_array_equal(next(singles), ROWS[[7]])


@pytest.mark.parametrize(
    ("sampler", "options", "reason"),
    [
        ([[0, 100]], {}, "no record 100: the reader has 100"),
        ([[-1]], {}, "no record -1"),
        ([5], {}, "pass batch_size"),
        ([[0.5]], {}, "sequence of record numbers"),
        ([["a"]], {}, "sequence of record numbers"),
        ([[[1]]], {}, "sequence of record numbers"),
        (None, {}, "pass a sampler"),
        (None, {"batch_size": 0}, "batch_size is 0"),
        (None, {"batch_size": 1, "prefetch": -1}, "prefetch is -1"),
        (None, {"batch_size": 1, "readahead": -1}, "readahead is -1"),
    ],
)
def test_orders_that_cannot_be(rows: Path, sampler: Any, options: dict[str, int], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        list(RecordReader(rows).batches(sampler, **options))


@pytest.mark.parametrize(("prefetch", "transform"), [(0, None), (1, None), (5, None), (5, np.negative)])
def test_no_more_is_read_ahead_than_allowed(rows: Path, prefetch: int, transform: Any) -> None:
    asked = 0

    def order() -> Iterator[list[int]]:
        nonlocal asked
        for asked in range(1, 101):
            yield [asked - 1]

    reader = RecordReader(rows, transform=transform)
    for seen, _ in enumerate(reader.batches(order(), prefetch=prefetch), 1):
        assert seen <= asked <= seen + prefetch


def test_what_is_announced_comes_in_the_same_order(rows: Path) -> None:
    reader = RecordReader(rows)
    order = np.random.default_rng(0).permutation(100).reshape(10, 10)
    np.testing.assert_array_equal(np.stack(list(reader.batches(order, readahead=3))), ROWS[order])


def test_a_batch_keeps_its_memory(rows: Path, text: Path) -> None:
    kept = list(RecordReader(rows).batches(batch_size=10))
    lines = [line for batch in RecordReader(text).batches(batch_size=10) for line in batch]
    views = [batch[2:3].T for batch in RecordReader(rows).batches(batch_size=10)]
    for _ in range(3):
        for batch in RecordReader(rows).batches(batch_size=10):
            batch[...] = -1  # memory that is given out again is not theirs
        gc.collect()
    np.testing.assert_array_equal(np.concatenate(kept), ROWS)
    assert [bytes(line).decode() for line in lines] == [f"{i}" * (i % 7) for i in range(100)]
    np.testing.assert_array_equal(np.concatenate([view.T for view in views]), ROWS[2::10])


def test_ragged_batches(text: Path) -> None:
    batch = RecordReader(text).read([2, 7, 10])
    assert isinstance(batch, RaggedBatch)
    assert (batch.data.dtype, batch.offsets.tolist()) == (np.uint8, [0, 2, 2, 8])
    assert [bytes(record) for record in batch] == [bytes(batch[i]) for i in range(3)] == batch[:]
    assert bytes(batch[-1]) == b"101010"
    with pytest.raises(IndexError):
        batch[3]


def test_transforms_keep_the_order(rows: Path) -> None:
    both = threading.Barrier(2)

    def slow_first(row: Any) -> Any:
        if row[0] in (0, 40):  # the first records of batches 0 and 1 wait for each other: two threads work
            both.wait(30)
        return row * 2

    reader = RecordReader(rows, transform=slow_first, threads=2)
    batches = list(reader.batches(batch_size=10))
    assert all(batch.dtype == np.int32 for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), ROWS * 2)


@pytest.mark.parametrize("threads", [0, 3])
def test_collate_takes_what_transform_gives(rows: Path, threads: int) -> None:
    reader = RecordReader(rows, transform=lambda row: f"{row[0]}", collate=",".join, threads=threads)
    assert list(reader.batches([[1, 2], [3]])) == ["4,8", "12"]
    assert RecordReader(rows, collate=len).read([1, 2, 3]) == 3


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (lambda row: int(row[0]), np.array([0, 4])),
        (lambda row: row[0] / 2, np.array([0.0, 2.0])),
        (lambda row: row[: 2 + row[0] // 4], [ROWS[0, :2], ROWS[1, :3]]),
        (lambda row: row if row[0] else row.astype(float), [ROWS[0].astype(float), ROWS[1]]),
        (lambda row: {"first": row[0]}, [{"first": 0}, {"first": 4}]),
        (lambda row: row.astype(object), [ROWS[0].astype(object), ROWS[1].astype(object)]),
    ],
)
def test_without_collate_what_is_alike_is_stacked(rows: Path, transform: Any, expected: Any) -> None:
    batch = RecordReader(rows, transform=transform).read([0, 1])
    assert type(batch) is type(expected)
    for own, wanted in zip(batch, expected, strict=True):
        np.testing.assert_array_equal(own, wanted, strict=isinstance(wanted, np.ndarray))


def threads_of_readers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("thinwire")]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_one_may_stop_anywhere(rows: Path, threads: int, taken: int) -> None:
    alive = []

    def transform(row: Any) -> Any:
        alive.append(weakref.ref(row.base))
        return row + 1

    reader = RecordReader(rows, transform=transform, threads=threads)
    batches = reader.batches(batch_size=5, prefetch=4)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert not threads_of_readers()
    gc.collect()
    assert not [ref for ref in alive if ref() is not None]
    assert len(list(reader.batches(batch_size=50))) == 2


def test_an_exception_of_the_consumer_ends_the_threads(rows: Path) -> None:
    def consume() -> None:
        for _ in RecordReader(rows, transform=np.negative, threads=2).batches(batch_size=5):
            raise KeyError("stop")

    with pytest.raises(KeyError):
        consume()
    gc.collect()
    assert not threads_of_readers()


def test_an_exception_of_the_sampler_passes(rows: Path) -> None:
    def order() -> Iterator[list[int]]:
        yield [1]
        raise KeyError("sampler")

    reader = RecordReader(rows, transform=np.negative, threads=2)
    with pytest.raises(KeyError, match="sampler"):
        list(reader.batches(order()))
    assert not threads_of_readers()


def test_several_threads_use_one_reader(rows: Path) -> None:
    reader = RecordReader(rows)

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(100).reshape(20, 5)
        np.testing.assert_array_equal(np.stack(list(reader.batches(order))), ROWS[order])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(8)))


def test_a_closed_reader_opens_again(rows: Path) -> None:
    with RecordReader(rows) as reader:
        reader.read([1])
    np.testing.assert_array_equal(reader.read([2]), ROWS[[2]])


def test_a_reader_travels_to_another_process(rows: Path) -> None:
    reader = RecordReader(rows, transform=np.negative)
    np.testing.assert_array_equal(reader.read([1]), -ROWS[[1]])
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read([2]), -ROWS[[2]])


def test_a_forked_process_opens_the_files_anew(rows: Path) -> None:
    reader = RecordReader(rows)
    running = reader.batches(batch_size=1, prefetch=4)
    next(running)
    context = multiprocessing.get_context("fork")
    inbox = context.SimpleQueue()
    child = context.Process(target=lambda: inbox.put(reader.read([3, 5]).tolist()))
    child.start()
    assert inbox.get() == ROWS[[3, 5]].tolist()
    child.join(30)
    assert child.exitcode == 0
    assert len(list(running)) == 99


class Sampler:
    """What a reader wants of a sampler that has a state, and weights."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        yield type("Batch", (list,), {"weight": 0.25, "indices": np.array([self.at, 7])})([0, 0])

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def test_the_state_is_the_samplers(rows: Path) -> None:
    reader, sampler = RecordReader(rows), Sampler()
    with pytest.raises(InvalidArgument, match="no sampler"):
        reader.state_dict()
    sampler.at = 3
    (batch,) = reader.named_batches(sampler)
    assert isinstance(batch, NamedBatch)
    assert (batch.indices.tolist(), batch.weight) == ([3, 7], 0.25)
    np.testing.assert_array_equal(batch.data, ROWS[[3, 7]])
    assert reader.state_dict() == {"at": 3}
    reader.load_state_dict({"at": 9})
    assert sampler.at == 9
    (unweighted,) = reader.named_batches([[1]])
    assert unweighted.weight is None


class Counting:
    """What a reader wants of a summary of the data."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def update(self, records: Any) -> None:
        self.calls.append(records.shape)

    def update_ragged(self, address: int, offsets: Any) -> None:
        self.calls.append((offsets.tolist(),))


def test_a_summary_sees_every_record(rows: Path, text: Path) -> None:
    seen = Counting()
    reader = RecordReader(rows, quality=seen, transform=lambda row: 0)
    list(reader.batches(batch_size=64))
    assert reader.quality() is seen
    assert sorted(seen.calls) == [(36, 4), (64, 4)]
    seen = Counting()
    RecordReader(text, quality=seen).read([1, 3])
    assert seen.calls == [([0, 1, 4],)]


def test_quality_in_passing(rows: Path, text: Path) -> None:
    from thinwire.data import Quality

    quality = Quality()
    list(RecordReader(rows, quality=quality).batches(batch_size=7))
    alone = Quality()
    alone.update(ROWS)
    assert str(quality) == str(alone)
    ragged = Quality("ragged")
    RecordReader(text, quality=ragged).read(range(100))
    assert "100" in str(ragged)


def test_records_of_no_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 0)))
    write_shards([b"", b""], tmp_path / "shards")
    assert RecordReader(tmp_path / "x.npy").read([0, 3]).shape == (2, 0)
    assert [bytes(record) for record in RecordReader(tmp_path / "shards")] == [b"", b""]


@pytest.mark.parametrize("engine", ["preadv", "io_uring"])
def test_every_engine_reads_the_same(rows: Path, engine: str) -> None:
    reader = RecordReader(rows, io={"engine": engine, "threads": 2, "depth": 4, "direct": "never"})
    try:
        np.testing.assert_array_equal(reader.read(range(100)), ROWS)
    except InvalidArgument as error:
        pytest.skip(str(error))


def test_many_files(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"{i:03}").write_bytes(bytes([i % 256]) * (i % 3))
    reader = RecordReader(tmp_path, dtype="u1")
    expected = [i % 256 for i in range(300) for _ in range(i % 3)]
    order = np.random.default_rng(1).permutation(len(expected))
    assert reader.read(order).tolist() == np.array(expected)[order].tolist()
    assert len(list(Path("/proc/self/fd").iterdir())) < 1000


@pytest.mark.parametrize("verify", [True, False])  # which are two ways to the native reader
def test_memory_does_not_go_back_while_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    """A signal's exception comes between the native call and whoever would keep what it returns."""

    class Interrupted:
        def __init__(self, reader: _core.FileReader) -> None:
            self.reader = reader

        def submit(self, *args: Any) -> None:
            self.reader.submit(*args)
            raise KeyboardInterrupt

        def submit_fixed(self, *args: Any) -> None:
            self.reader.submit_fixed(*args)
            raise KeyboardInterrupt

    write_shards(np.ones((50_000, 16), np.uint8), tmp_path)
    reader = RecordReader(tmp_path, verify=verify, io={"threads": 1, "engine": "preadv", "depth": 1})
    native = reader._native.open()
    monkeypatch.setattr(NativeFiles, "open", lambda self: Interrupted(native))
    scattered = np.random.default_rng(0).permutation(len(reader))
    with pytest.raises(KeyboardInterrupt):
        reader.read(scattered)
    reads = native.stats()["reads"]
    assert reads == 0  # of calls that have ended
    mine = [HostPool.shared().empty(50_000 * 16).numpy() for _ in range(4)]
    for each in mine:
        each[:] = 0
    deadline = time.monotonic() + 30
    while native.stats()["reads"] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert native.stats()["reads"] > 0
    assert not any(each.any() for each in mine)
