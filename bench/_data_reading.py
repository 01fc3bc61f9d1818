"""Cases of `thinwire bench data`: reading records beside torch's DataLoader, np.memmap and pread."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thinwire as tw
from thinwire.bench._cases import Case, Effort, Measured, in_turn, need, seconds

BATCH = 64
KIB = 1 << 10
LARGE, SMALL = 64 * KIB, KIB  # bytes of a record
_SMALL_PART = 4  # so much less data for small records, which take longer
_WORKERS = (0, 1, 2)
_DEPTH = 32
_COPYING, _SLOT_BYTES = 2, 24 << 20  # threads, and the memory that they fill again and again

Rows = NDArray[np.uint8]


def cases() -> list[Case]:
    """The rows with a bar first."""
    return [
        Case("shuffled 64 KiB records", "DataLoader, best", 3.0, partial(_loader, LARGE)),
        Case("shuffled 1 KiB records", "DataLoader, best", 8.0, partial(_loader, SMALL)),
        Case("shuffled 64 KiB records", "bare copy, 2 threads", None, partial(_bare_copy, LARGE)),
        Case("shuffled 1 KiB records", "bare copy, 2 threads", None, partial(_bare_copy, SMALL)),
        Case("shuffled 64 KiB records", "np.memmap, rows[indices]", None, partial(_memmap, LARGE)),
        Case("shuffled 1 KiB records", "np.memmap, rows[indices]", None, partial(_memmap, SMALL)),
        Case("cold 64 KiB records, depth 32", "pread, one at a time", None, _cold),
    ]


def _loader(record_bytes: int, effort: Effort) -> Measured:
    """Beside the DataLoader that is fastest here: rows of a memory map or from pread, 0 to 2 workers."""
    need("torch")
    import torch

    with _records(record_bytes, effort) as path, _reader(path, record_bytes) as reader:
        rows = _mapped(path, record_bytes)
        own = partial(_read_all, reader, torch.from_numpy)
        loaders = [_data_loader(data, workers) for data in _datasets(path, rows) for workers in _WORKERS]
        every = [partial(_consume, loader) for loader in loaders]
        for each in (own, *every):
            each()  # workers start, pages come into the cache
        rounds = [[seconds(each) for each in (own, *every)] for _ in range(effort.rounds)]
        best = min(range(1, len(every) + 1), key=lambda i: float(np.median([each[i] for each in rounds])))
        return Measured([each[0] for each in rounds], [each[best] for each in rounds], rows.nbytes)


def _memmap(record_bytes: int, effort: Effort) -> Measured:
    """Beside one vectorised copy a batch, in this thread."""
    with _records(record_bytes, effort) as path, _reader(path, record_bytes) as reader:
        rows = _mapped(path, record_bytes)

        def base() -> None:
            for indices in _order(len(rows)):
                rows[indices]

        return in_turn(partial(_read_all, reader), base, rows.nbytes, effort.rounds)


def _bare_copy(record_bytes: int, effort: Effort) -> Measured:
    """Beside what no reader that copies can pass: threads that do nothing else, into memory that is there."""
    with _records(record_bytes, effort) as path, _reader(path, record_bytes) as reader:
        rows = _mapped(path, record_bytes)
        slots = np.ones((_SLOT_BYTES // (BATCH * record_bytes), BATCH, record_bytes), np.uint8)

        def copy(batches: list[tuple[int, NDArray[np.int64]]]) -> None:
            for number, indices in batches:
                rows.take(indices, 0, slots[number % len(slots), : len(indices)], "clip")  # without the GIL

        with ThreadPoolExecutor(_COPYING) as threads:

            def base() -> None:
                batches = list(enumerate(_order(len(rows))))
                list(threads.map(copy, [batches[first::_COPYING] for first in range(_COPYING)]))

            return in_turn(partial(_read_all, reader), base, rows.nbytes, effort.rounds)


def _cold(effort: Effort) -> Measured:
    """Records that are not in the page cache, each time."""
    with _records(LARGE, effort) as path, path.open("rb") as file:
        os.fsync(file.fileno())
        nbytes = path.stat().st_size

        def own() -> None:
            with _reader(path, LARGE, io={"depth": _DEPTH}) as reader:  # anew: pages in use stay in the cache
                _read_all(reader)

        def base() -> None:
            for index in np.concatenate(list(_order(nbytes // LARGE))).tolist():
                os.pread(file.fileno(), LARGE, index * LARGE)

        def cold(read: Callable[[], None]) -> float:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return seconds(read)

        pairs = [(cold(own), cold(base)) for _ in range(effort.rounds)]
        return Measured([own for own, _ in pairs], [base for _, base in pairs], nbytes)


def _reader(path: Path, record_bytes: int, **options: Any) -> tw.data.RecordReader:
    return tw.data.RecordReader(path, dtype="uint8", shape=record_bytes, **options)


def _read_all(reader: tw.data.RecordReader, view: Callable[[Any], Any] = np.asarray) -> None:
    for batch in reader.batches(_order(len(reader))):
        view(batch)


def _order(count: int) -> Iterator[NDArray[np.int64]]:
    """Batches of a random order."""
    order = np.random.default_rng().permutation(count)
    return iter(np.split(order, range(BATCH, count, BATCH)))


def _mapped(path: Path, record_bytes: int) -> Rows:
    return np.asarray(np.memmap(path, np.uint8, "c")).reshape(-1, record_bytes)


def _consume(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def _datasets(path: Path, rows: Rows) -> list[Any]:
    """Map-style datasets that people write for such a file."""
    return [_MappedRows(rows), _ReadRows(path, *rows.shape)]


class _MappedRows:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Rows:
        return self._rows[index]


class _ReadRows:
    def __init__(self, path: Path, count: int, size: int) -> None:
        self._descriptor, self._count, self._size = os.open(path, os.O_RDONLY), count, size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Rows:
        row = np.empty(self._size, np.uint8)
        os.preadv(self._descriptor, [row.data], index * self._size)
        return row

    def __del__(self) -> None:
        os.close(self._descriptor)


def _data_loader(dataset: Any, workers: int) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )


@contextmanager
def _records(record_bytes: int, effort: Effort) -> Iterator[Path]:
    """A file of random records in the current folder, and in the page cache."""
    mebibytes = effort.file_mebibytes // (_SMALL_PART if record_bytes == SMALL else 1)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder, "records")
        np.random.default_rng(1).integers(0, 256, mebibytes << 20, np.uint8).tofile(path)
        yield path
