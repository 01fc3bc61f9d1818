"""One Quality that several threads and readers fill."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from thinwire.data import Quality, RecordReader

THREADS = 4


@pytest.fixture
def _switching() -> Iterator[None]:
    """Threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(act: Callable[[int], object]) -> None:
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> None:
        barrier.wait()
        act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("_switching")
def test_threads_that_begin_together_lose_no_counts() -> None:
    rows, texts = np.arange(60, dtype=np.int32).reshape(20, 3), [b"a", b"bc"]
    for _ in range(30):
        numbers, lines = Quality(), Quality()
        at_once(lambda _, quality=numbers: quality.update(rows))  # type: ignore[misc]
        at_once(lambda _, quality=lines: quality.update(texts))  # type: ignore[misc]
        assert numbers.records == THREADS * len(rows)
        assert lines.records == THREADS * len(texts)


@pytest.mark.usefixtures("_switching")
def test_threads_that_merge_together_lose_no_counts() -> None:
    one, total = Quality(), Quality("int32")
    one.update(np.arange(7, dtype=np.int32))
    at_once(lambda _: [total.merge(one) for _ in range(5)])
    assert total.records == THREADS * 5 * 7


@pytest.mark.parametrize("threads", [0, 2])
def test_readers_share_a_quality(tmp_path: Path, threads: int) -> None:
    values = np.random.default_rng(5).standard_normal((4000, 8)).astype(np.float32)
    values.tofile(tmp_path / "records")
    shared, alone = Quality(), Quality()
    alone.update(values)

    def read(_: int) -> None:
        with RecordReader(
            tmp_path / "records", dtype="float32", shape=8, quality=shared, threads=threads, transform=np.copy
        ) as reader:
            for _ in reader.batches(batch_size=50):
                pass

    at_once(read)
    field, expected = shared.fields["value"], alone.fields["value"]
    assert shared.records == THREADS * len(values)
    assert np.array_equal(field.bins, THREADS * expected.bins)
    assert field.mean == pytest.approx(expected.mean)


def test_a_pickled_quality_goes_on_by_itself() -> None:
    unused: Quality = pickle.loads(pickle.dumps(Quality()))
    for before in (unused, Quality("int32"), Quality(label="y", classes=7)):
        assert pickle.loads(pickle.dumps(before)).records == 0
    unused.update(np.arange(3, dtype=np.int32))
    assert unused.records == 3
    used = Quality()
    used.update(np.arange(9, dtype=np.int32))
    copy: Quality = pickle.loads(pickle.dumps(used))
    copy.update(np.arange(5, dtype=np.int32))
    assert (used.records, copy.records) == (9, 14)
