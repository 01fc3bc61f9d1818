"""Exact duplicates of records over many files: the first of each stays, in the order of (file, position).

Two passes over the input: the first takes a fingerprint of every record and finds those that were there
before, the second copies what stays. A fingerprint is half a BLAKE3 digest under a key of this run, so nobody
can prepare records that only seem equal.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thinwire import _core
from thinwire._durable import sync
from thinwire._sizes import format_size, parse_size
from thinwire.errors import InvalidArgument, StoreError
from thinwire.store.backend import failure
from thinwire.store.compressed import reading, writing
from thinwire.store.fingerprints import FINGERPRINT_BYTES, Comparer, Numbers, Rows, rows_of
from thinwire.store.metering import Meter, Progress
from thinwire.store.shards import Lines, Shard, find_shards, read_lines

KINDS = ("lines", "jsonl", "files")
DEFAULT_MEMORY = "1GiB"
LEAST_MEMORY = 64 << 20

_COMPARING = 2  # a half of the memory is for fingerprints, the other for the files' content
_BLOCK = (
    256  # a block is so small a part of the memory, for a line of one byte takes about 100 while it is hashed
)
_MOST_BLOCK_BYTES = 4 << 20  # more brings nothing
_LINE = 32  # so small a part is the longest line: blocks, and copies of them, are several at a time
_WINDOW = 8  # and what a decoder looks back over: four at once, while nothing is compared
_COPIERS = 4  # files that are written at once, at most
_FILE_PART = 1 << 20
_LEAST_MARKS = 64 << 10

Fingerprints = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class DedupReport:
    """What `dedup_records` did: counts, and sizes in bytes."""

    files: int
    records: int
    duplicates: int
    bytes_in: int
    bytes_out: int


def dedup_records(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    kind: str = "lines",
    fields: Sequence[str] = (),
    memory: int | str = DEFAULT_MEMORY,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DedupReport:
    """Copy `inputs` into the new folder `out`, without the records that were there before.

    `inputs` are files and folders. `kind` says what a record is: "lines" takes every line, of text or of JSON
    Lines, byte by byte; "jsonl" parses the lines, so that order of keys and spaces do not matter, and
    compares only `fields` where there are any; "files" takes whole files. Lines of files whose names end in
    .gz or .zst are read out of the compressed stream, and what stays is compressed again.

    `memory` bounds what is held in memory, "4GiB" or a number of bytes, at least 64 MiB; what is more goes to
    a folder beside `out` meanwhile. `progress` is called with the bytes done and the bytes to do.

    The result is the same for any number of threads and any memory. `out` must not exist, or be an empty
    folder; it appears whole or not at all. Raises NotFound, InvalidArgument for what cannot be or changes
    meanwhile, CorruptRecord for compressed data that is damaged or cut off, and StoreError where reading or
    writing fails.
    """
    target = Path(out)
    shards = find_shards([Path(each) for each in inputs])
    _check_target(target, [Path(each) for each in inputs])
    common = shards, _memory(memory), threads or len(os.sched_getaffinity(0)), progress
    job = _make_job(kind, fields, *common)
    try:
        with _beside(target) as folder:
            result = folder / "result"
            result.mkdir()
            report = _dedup(job, folder, result)
            for shard in shards:
                shard.check()
            _sync_tree(result)
            result.replace(target)
            sync(target.parent)
            return report
    except StoreError:
        raise
    except OSError as error:
        raise failure(error, "deduplicating", str(error.filename or target)) from error


def _dedup(job: _Job, folder: Path, result: Path) -> DedupReport:
    spill = folder / "spill"
    spill.mkdir()
    dropped = Dropped(folder / "dropped")
    Comparer(spill, job.memory // _COMPARING, dropped.add).compare(job.rows())
    job.copy(dropped, result)
    bytes_out = sum(path.stat().st_size for path in result.rglob("*") if path.is_file())
    return DedupReport(
        files=len(job.shards),
        records=int(job.counts.sum()),
        duplicates=dropped.count,
        bytes_in=sum(shard.size for shard in job.shards),
        bytes_out=bytes_out,
    )


class Dropped:
    """The records that do not stay: a byte each in a file, which the kernel caches as it can."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks = np.zeros(0, np.bool_)
        self.count = 0

    def add(self, numbers: Numbers) -> None:
        """Drop the records of these numbers, each of which is dropped once. Raises OSError on a full disk."""
        if len(numbers):
            self._grow(int(numbers.max()) + 1)
        self._marks[numbers] = True
        self.count += len(numbers)

    def between(self, begin: int, end: int) -> NDArray[np.bool_]:
        """Which of the records from `begin` to `end` are dropped."""
        found = np.zeros(end - begin, np.bool_)
        known = self._marks[begin:end]
        found[: len(known)] = known
        return found

    def _grow(self, least: int) -> None:
        if least <= len(self._marks):
            return
        size = max(least, 2 * len(self._marks), _LEAST_MARKS)
        # Writing to a mapping that finds the disk full would be fatal. Not opened to append: the C library
        # would then do nothing for a filesystem that cannot reserve.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
        self._marks = np.memmap(self._path, np.bool_, "r+", shape=size)


class _Job:
    """What the kinds of records have in common: their files, and how many records each has."""

    def __init__(self, shards: list[Shard], memory: int, threads: int, progress: Progress | None) -> None:
        self.shards, self.memory, self.threads = shards, memory, threads
        self.counts = np.zeros(len(shards), np.int64)
        self._key = secrets.token_bytes(32)
        self.meter = Meter(progress, 2 * sum(shard.size for shard in shards))  # each byte is read twice

    def rows(self) -> Iterator[Rows]:
        """A fingerprint of every record, in order."""
        raise NotImplementedError

    def copy(self, dropped: Dropped, result: Path) -> None:
        """Write the files without the dropped records."""
        raise NotImplementedError

    def hash(self, data: Any, ends: NDArray[np.int64]) -> Fingerprints:
        """Fingerprints of consecutive blocks."""
        digests = _core.blake3_blocks(data, ends, self._key, self.threads)
        return np.asarray(digests)[:, :FINGERPRINT_BYTES]


class _LineJob(_Job):
    """Records are lines."""

    def __init__(self, identity: Callable[[Shard, int, Lines], Lines], *common: Any) -> None:
        super().__init__(*common)
        self._identity = identity

    def rows(self) -> Iterator[Rows]:
        first = 0
        for index, lines in _ahead(self._blocks()):
            shard = self.shards[index]
            alike = self._identity(shard, int(self.counts[index]), lines)
            yield rows_of(self.hash(alike.data, alike.ends), first)
            self.counts[index] += len(lines.ends)
            first += len(lines.ends)

    def copy(self, dropped: Dropped, result: Path) -> None:
        firsts = np.cumsum(self.counts) - self.counts
        with ThreadPoolExecutor(min(self.threads, _COPIERS)) as pool:
            copy = partial(self._copy, dropped, result)
            list(pool.map(copy, self.shards, firsts.tolist(), self.counts.tolist()))

    def _blocks(self) -> Iterator[tuple[int, Lines]]:
        for index, shard in enumerate(self.shards):
            for lines in self._read(shard):
                yield index, lines

    def _read(self, shard: Shard) -> Iterator[Lines]:
        block_bytes = min(self.memory // _BLOCK, _MOST_BLOCK_BYTES)
        with reading(shard.path, shard.size, self.memory // _WINDOW, self.meter.add) as source:
            yield from read_lines(shard, source, block_bytes, self.memory // _LINE)

    def _copy(self, dropped: Dropped, result: Path, shard: Shard, first: int, count: int) -> None:
        target = result / shard.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shard.check()
        with writing(target) as file:
            for lines in self._read(shard):
                count -= len(lines.ends)
                if count < 0:
                    raise shard.changed()
                file.write(lines.without(dropped.between(first, first + len(lines.ends))))
                first += len(lines.ends)
        if count:
            raise shard.changed()


class _FileJob(_Job):
    """Records are whole files. Only those whose size is not unique are read to be compared."""

    def rows(self) -> Iterator[Rows]:
        self.counts[:] = 1
        sizes = Counter(shard.size for shard in self.shards)
        for number, shard in enumerate(self.shards):
            if sizes[shard.size] > 1:
                yield rows_of(self._fingerprint(shard), number)
            self.meter.add(shard.size)

    def copy(self, dropped: Dropped, result: Path) -> None:
        for number, shard in enumerate(self.shards):
            target = result / shard.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not dropped.between(number, number + 1)[0]:
                shutil.copy2(shard.path, target)
            self.meter.add(shard.size)

    def _fingerprint(self, shard: Shard) -> Fingerprints:
        """That of the digests of the file's parts, for it may be larger than memory."""
        shard.check()
        digests = [np.zeros((0, FINGERPRINT_BYTES), np.uint8)]
        with shard.path.open("rb", buffering=0) as file:
            while data := file.read(self.threads * _FILE_PART):
                ends = np.append(np.arange(_FILE_PART, len(data), _FILE_PART), len(data))
                digests.append(self.hash(data, ends))
        joined = np.concatenate(digests).tobytes() + b"."  # which an empty file has too
        return self.hash(joined, np.array([len(joined)]))


def _make_job(
    kind: str,
    fields: Sequence[str],
    shards: list[Shard],
    memory: int,
    threads: int,
    progress: Progress | None,
) -> _Job:
    if kind not in KINDS:
        raise InvalidArgument(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if fields and kind != "jsonl":
        raise InvalidArgument('fields belong to kind="jsonl"')
    common = shards, memory, threads, progress
    if kind == "files":
        return _FileJob(*common)
    return _LineJob(_Parser(fields) if kind == "jsonl" else _as_they_are, *common)


def _as_they_are(shard: Shard, line: int, lines: Lines) -> Lines:
    return lines


class _Parser:
    """Lines of JSON, each written in one way whatever way it was written in the file."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = tuple(fields)

    def __call__(self, shard: Shard, line: int, lines: Lines) -> Lines:
        """The same number of lines; `line` is how many of the shard come before them."""
        texts = lines.data.tobytes().split(b"\n")[:-1]
        written = [self._write(text, f"{shard.path}, line {line + i}") for i, text in enumerate(texts, 1)]
        ends = np.cumsum([len(each) for each in written], dtype=np.int64)
        return Lines(np.frombuffer(b"".join(written), np.uint8), ends, completed=False)

    def _write(self, text: bytes, where: str) -> bytes:
        if not text.strip():
            return b"\n"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f'{where} is not JSON ({error}); kind="lines" takes any text') from None
        if self._fields:
            missing = [f for f in self._fields if not (isinstance(record, dict) and f in record)]
            if missing:
                raise InvalidArgument(f"{where} has no field {missing[0]!r}")
            record = [record[field] for field in self._fields]
        return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _memory(given: int | str) -> int:
    memory = parse_size(given, "memory")
    if memory < LEAST_MEMORY:
        raise InvalidArgument(
            f"memory is {format_size(memory)}; it must be {format_size(LEAST_MEMORY)} or more"
        )
    return memory


def _check_target(target: Path, inputs: Iterable[Path]) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidArgument(f"{target} exists; name a folder that does not, or is empty")
    for path in inputs:
        if path.is_dir() and path.resolve() in [target.resolve(), *target.resolve().parents]:
            raise InvalidArgument(f"{target} lies in the input {path}; name a folder elsewhere")


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the same filesystem, gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        yield Path(folder)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; each is made while the one before is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync(path)
