"""RecordReader: records of many files, read natively in a sampler's order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from thinwire._sizes import format_size, parse_size
from thinwire.data.disk_cache import DEFAULT_LIMIT, DiskCache
from thinwire.data.faults import Faults, Policy, ReaderReport
from thinwire.data.files import LocalFile, Paths, Source, expand, is_url
from thinwire.data.formats import DECODERS, OPENERS, Request, choose_format, make_element
from thinwire.data.layout import Table
from thinwire.data.native import NativeFiles
from thinwire.data.pipeline import Delivered, NamedBatch, Pipeline
from thinwire.data.quality import Quality
from thinwire.data.remote import RemoteFile, RemoteFiles
from thinwire.data.wanted import Wanted, in_batches, wanted
from thinwire.errors import InvalidArgument

_IO_OPTIONS = ("threads", "depth", "engine", "direct")
_ITERATED = 256  # records that `for record in reader` reads at once
_MOST_THREADS = 4  # by default, for transforms

Transform = Callable[[Any], Any]
Collate = Callable[[list[Any]], Any]


class RecordReader:
    """Records of one file or many, numbered from 0 in the order of the files, read in any order.

    `paths`: files, patterns ("train-*.npy"), folders (all files in them, sorted), or fsspec URLs. `format`:
    "raw" (records of one size that follow each other: `dtype`, and `shape` of one record), "npy" (the rows of
    .npy files), "lines" (of text, as bytes), "jsonl" (lines of JSON, parsed), "shards" (what `write_shards`
    writes), or "auto": by the first file's name, and raw where there is a dtype.

    A batch of raw, .npy and fixed shard records is one array (records, *shape); of others a `RaggedBatch`; of
    JSON a list. Its memory is used again when nobody holds the batch or a view of it.

    `transform` is called with each record (a view of the batch's memory: an array, a memoryview, or what the
    JSON says), on `threads` threads; `collate` with the list of results, and without it arrays of one shape
    are stacked. By default 4 threads, at most one a core; 0 for the caller's own.

    `faults`: "raise" raises at the first record that cannot be read or transformed; "skip" leaves it out,
    counts it, and names it in `report()`. `verify`: check the checksums of formats that have them.
    `max_record_bytes`: a longer record is a fault. `line_index`: where to keep what was found out about a
    text: None, "beside" it, or a folder.

    `cache`: a folder for what comes from URLs, at most `cache_limit`; needed for URLs, whose filesystems take
    `storage_options`. `quality`: counts every record that is read. `io`: options of the
    native reader: threads, depth, engine ("auto", "io_uring", "preadv"), direct ("auto", "never", "always").

    Raises OSError where a file is not there or cannot be read, CorruptRecord where it is damaged or cut off,
    InvalidArgument for files that do not fit together, and for all other arguments that cannot be.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        format: str = "auto",
        dtype: Any = None,
        shape: tuple[int, ...] | int = (),
        transform: Transform | None = None,
        collate: Collate | None = None,
        threads: int | None = None,
        faults: Policy = "raise",
        verify: bool = True,
        max_record_bytes: int | str = "256MiB",
        line_index: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | str = DEFAULT_LIMIT,
        storage_options: Mapping[str, Any] | None = None,
        quality: Quality | None = None,
        io: Mapping[str, Any] | None = None,
    ) -> None:
        self._faults = Faults(faults)
        names = expand(paths)
        self._cache = None if cache is None else DiskCache(cache, cache_limit)
        self._sources = [self._source(name, dict(storage_options or {})) for name in names]
        element = make_element(dtype, shape)
        self.format = choose_format(format, names[0], element)
        kept_in = None if line_index is None else os.fspath(line_index)
        request = Request(element, kept_in, len(os.sched_getaffinity(0)), self._faults)
        layouts = [OPENERS[self.format](source, request) for source in self._sources]
        self._table = Table(names, layouts)
        self._most = _check_record_size(max_record_bytes, self._table)
        self._native = NativeFiles([_local_path(each) for each in self._sources], _check_io(io))
        remote = any(isinstance(each, RemoteFile) for each in self._sources)
        self._remote = RemoteFiles(self._sources) if remote else None
        self._steps = [each for each in (DECODERS.get(self.format), transform) if each is not None]
        self._collate, self._verify, self._quality = collate, verify, quality
        self._threads = _thread_count(threads) if self._steps or collate else 0
        self._delivered = Delivered()
        self._sampler: Any = None

    def __len__(self) -> int:
        return self._table.count

    @property
    def nbytes(self) -> int:
        """Bytes of all records."""
        return self._table.nbytes

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the elements of every record; None where records are bytes of any length."""
        return self._table.element.dtype if self._table.element else None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of every record; None where records are bytes of any length."""
        return self._table.element.shape if self._table.element else None

    def read(self, indices: Any) -> Any:
        """One batch: the records of these numbers, in this order. Raises as `batches` does."""
        (batch,) = self._run([wanted(indices)], 0, 0)
        return batch.data

    def __getitem__(self, index: int) -> Any:
        """One record. Negative numbers count from the end."""
        at = range(len(self))[index]
        records = self.read([at])
        if not len(records):
            raise InvalidArgument(f"record {at} is left out, as it has a fault")
        return records[0]

    def __iter__(self) -> Iterator[Any]:
        """All records, in order."""
        for batch in self.batches(batch_size=_ITERATED):
            yield from batch

    def batches(
        self,
        sampler: Iterable[Any] | None = None,
        *,
        batch_size: int | None = None,
        prefetch: int | None = None,
        readahead: int | None = None,
    ) -> Iterator[Any]:
        """The batches that `sampler` asks for, in its order.

        `sampler` gives batches, each a sequence or array of record numbers, as the samplers of thinwire and
        torch's batch samplers do; or with `batch_size` single numbers; None stands for all in order.
        `prefetch`: so many batches are read ahead, by default 4 to 64, about 16 MiB. `readahead`: of so many
        more, the files at URLs are fetched (default 64), or the kernel is told (default 0).

        Closing the iterator, or an exception, ends what is under way. Raises InvalidArgument for a number out
        of range and for a file that was changed since; CorruptRecord and OSError, which name file, offset and
        record, with faults="raise".
        """
        return (batch.data for batch in self.named_batches(sampler, batch_size, prefetch, readahead))

    def named_batches(
        self,
        sampler: Iterable[Any] | None = None,
        batch_size: int | None = None,
        prefetch: int | None = None,
        readahead: int | None = None,
    ) -> Iterator[NamedBatch]:
        """Like `batches`, each with the numbers of its records and its weight."""
        for name, value in (("prefetch", prefetch), ("readahead", readahead)):
            if value is not None and value < 0:
                raise InvalidArgument(f"{name} is {value}; it must be 0 or more")
        if sampler is None and batch_size is None:
            raise InvalidArgument("pass a sampler, or batch_size")
        self._sampler = sampler
        for source in self._sources:
            source.check()
        order = in_batches(range(len(self)) if sampler is None else sampler, batch_size)
        return self._run(map(wanted, order), prefetch, readahead)

    def state_dict(self) -> dict[str, Any]:
        """The state of the sampler that `batches` was given last."""
        return cast(dict[str, Any], self._known_sampler().state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give that sampler a state."""
        self._known_sampler().load_state_dict(state)

    def report(self) -> ReaderReport:
        """What was delivered, what was skipped and why, and how it was read."""
        done, faults = self._delivered, self._faults
        cache = self._cache.stats() if self._cache else None
        counts = done.records, done.batches, faults.count, tuple(faults.named)
        return ReaderReport(*counts, self._native.stats(), cache)

    def quality(self) -> Quality | None:
        """The `Quality` that was given, None where none was."""
        return self._quality

    def close(self) -> None:
        """Close the files. A reader that is used again opens them again."""
        self._native.close()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(
        self, order: Iterable[Wanted], prefetch: int | None, readahead: int | None
    ) -> Iterator[NamedBatch]:
        pipeline = Pipeline(
            files=self._native,
            table=self._table,
            faults=self._faults,
            most_record_bytes=self._most,
            verify=self._verify,
            steps=self._steps,
            collate=self._collate,
            threads=self._threads,
            quality=self._quality,
            remote=self._remote,
            delivered=self._delivered,
        )
        return pipeline.run(order, prefetch, readahead)

    def _source(self, name: str, options: dict[str, Any]) -> Source:
        if not is_url(name):
            return LocalFile(Path(name))
        if self._cache is None:
            raise InvalidArgument(f"{name} is a URL, so pass cache=, a folder for what comes from there")
        return RemoteFile(name, self._cache, options)

    def _known_sampler(self) -> Any:
        if not hasattr(self._sampler, "state_dict"):
            raise InvalidArgument("the reader has no sampler with a state yet; give one to batches()")
        return self._sampler


def _local_path(source: Source) -> str:
    return str(source.cached if isinstance(source, RemoteFile) else source.local())


def _check_io(io: Mapping[str, Any] | None) -> dict[str, Any]:
    options = dict(io or {})
    for name in options:
        if name not in _IO_OPTIONS:
            raise InvalidArgument(f"io has no option {name!r}; it has {', '.join(_IO_OPTIONS)}")
    return options


def _check_record_size(most: int | str, table: Table) -> int:
    size = parse_size(most, "max_record_bytes")
    if table.element is not None and table.element.nbytes > size:
        raise InvalidArgument(
            f"a record has {format_size(table.element.nbytes)}, and max_record_bytes is {format_size(size)}"
        )
    return size


def _thread_count(threads: int | None) -> int:
    if threads is None:
        return min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    if threads < 0:
        raise InvalidArgument(f"threads is {threads}; it must be 0 or more")
    return threads
