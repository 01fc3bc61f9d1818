"""Chunks into the caller's memory: in parallel, neighbours at once, each verified where it arrived."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from thinwire import _core
from thinwire._memory import allocate, batches, byte_view
from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument, NotFound, StoreError
from thinwire.store import coding, pack
from thinwire.store.catalog import Catalog
from thinwire.store.index import Chunks, Index, Place, Positions
from thinwire.store.manifest import Manifest
from thinwire.store.metering import UNHEARD
from thinwire.store.packer import Workers
from thinwire.store.refs import Ref
from thinwire.store.sealing import Cipher

BATCH_BYTES = 64 << 20
RUN_BYTES = 4 << 20  # read at once, at most, where records lie side by side
_MOST_GAP = 4 << 10  # read and thrown away rather than asked for apart
_DIRECT_BYTES = 256 << 10  # from here on a raw chunk is read straight into its place
_local = threading.local()

Offsets = np.ndarray[Any, np.dtype[np.int64]]


class Piece(NamedTuple):
    """A row of chunks, and the memory that they fill."""

    chunks: Chunks
    out: memoryview
    at: int  # where the row begins in its version, for error messages


class Reader:
    """One version of a name. Safe for several threads. Made by `Store.reader`."""

    def __init__(self, fetcher: Fetcher, ref: Ref, manifest: Manifest) -> None:
        self._fetcher, self._manifest = fetcher, manifest
        self.ref = ref
        self.meter = UNHEARD
        self._ends: Offsets = np.cumsum(manifest.chunks["size"], dtype=np.int64)

    @property
    def metadata(self) -> Any:
        """What was given to `commit`."""
        return self._manifest.metadata

    @property
    def chunks(self) -> Chunks:
        """The chunks in order, dtype CHUNK."""
        return self._manifest.chunks

    @property
    def size(self) -> int:
        """Bytes of all chunks."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def read_into(self, wanted: Sequence[tuple[slice | tuple[int, int], Any]]) -> None:
        """Fill buffers. Each item is a range of chunks, (begin, end) or a slice, and the buffer for them.

        Raises InvalidArgument where a buffer does not have the size of its chunks, CorruptChunk where a chunk
        is damaged and no replica has it.
        """
        pieces = []
        for which, buffer in wanted:
            rows = which if isinstance(which, slice) else slice(*which)
            begin, end, step = rows.indices(len(self.chunks))
            out = byte_view(buffer, "out", writable=True)
            chunks = self.chunks[begin:end]
            if step != 1 or int(chunks["size"].sum()) != len(out):
                raise InvalidArgument(
                    f"out has {len(out)} bytes, chunks {begin} to {end} have {int(chunks['size'].sum())}"
                )
            pieces.append(Piece(chunks, out, int(self._ends[begin - 1]) if begin else 0))
        self._fetcher.fetch(pieces, f"{self.ref.name}@{self.ref.version}")
        self.meter.add(sum(len(piece.out) for piece in pieces))

    def windows(self, most: int) -> Iterator[memoryview]:
        """All bytes in order, about `most` at a time. A window is valid until the next is asked for."""
        memory = allocate(0)
        for rows in batches(self.chunks["size"], most):
            size = int(self.chunks["size"][rows].sum())
            if len(memory) < size:
                memory = allocate(size)
            self.read_into([(rows, memory[:size])])
            yield memory[:size]


class Job(NamedTuple):
    """A run of records of one pack. `rows` count in the request."""

    row: int  # of the pack in the index
    begin: int
    end: int
    rows: Positions


class Request:
    """All chunks that one call wants, as flat arrays."""

    def __init__(self, pieces: Sequence[Piece], what: str) -> None:
        self.pieces, self.what = pieces, what
        if not pieces:
            return
        counts = [len(piece.chunks) for piece in pieces]
        self.chunks = np.concatenate([piece.chunks for piece in pieces])
        self.piece = np.repeat(np.arange(len(pieces)), counts)
        self.offset = np.concatenate(
            [np.cumsum(p.chunks["size"], dtype=np.int64) - p.chunks["size"].astype(np.int64) for p in pieces]
        )

    def out(self, row: int) -> memoryview:
        """The memory of one chunk."""
        begin = int(self.offset[row])
        piece: Piece = self.pieces[self.piece[row]]
        return piece.out[begin : begin + int(self.chunks["size"][row])]

    def place(self, row: int) -> str:
        """The byte range of one chunk, in words."""
        begin = self.pieces[self.piece[row]].at + int(self.offset[row])
        return f"bytes {begin} to {begin + int(self.chunks['size'][row])} of {self.what}"


class Fetcher:
    """Gets chunks by id out of one store, and of its replicas where it fails."""

    def __init__(self, catalog: Catalog, workers: Workers, replicas: Sequence[Fetcher] = ()) -> None:
        self._catalog, self._workers, self._replicas = catalog, workers, replicas

    def fetch(self, pieces: Sequence[Piece], what: str) -> None:
        """Fill the pieces' memory with their chunks, verified. `what` names their version in errors."""
        request = Request([piece for piece in pieces if len(piece.chunks)], what)
        for row in self._attempt(request):
            try:
                self._rescue(request, row)
            except StoreError as error:
                message = f"{error} ({request.place(row)}); run verify to see all that is damaged"
                raise type(error)(message) from None

    def sound(self, chunks: Chunks) -> Iterator[tuple[bytes, memoryview]]:
        """Each of these chunks and its id, leaving out those that nobody has sound."""
        for rows in batches(chunks["size"], BATCH_BYTES):
            part = chunks[rows]
            memory = allocate(int(part["size"].sum()))
            request = Request([Piece(part, memory, 0)], "")
            bad = set(self._attempt(request))
            for row in range(len(part)):
                if row in bad:
                    try:
                        self._rescue(request, row)
                    except FormatVersion:
                        raise
                    except StoreError:
                        continue
                yield part["id"][row].tobytes(), request.out(row)

    def _attempt(self, request: Request) -> list[int]:
        """Read everything where the index says it is; the rows that did not arrive sound."""
        if not request.pieces:
            return []
        index, found = self._find(request)
        there = found >= 0
        there[there] = index.entries["raw"][found[there]] == request.chunks["size"][there]
        bad: list[int] = np.flatnonzero(~there).tolist()
        jobs = list(_plan(index, found, np.flatnonzero(there)))
        for failed in self._workers.coders.map(lambda job: self._run(request, index, found, job), jobs):
            bad += failed
        return bad

    def chunk(self, chunk: bytes) -> memoryview:
        """One chunk, from wherever it is sound. Raises CorruptChunk, NotFound where nobody has it, StoreError
        where a place cannot be read."""
        try:
            return self._own_chunk(chunk)
        except FormatVersion:
            raise
        except StoreError:
            for replica in self._replicas:
                with contextlib.suppress(StoreError):
                    return replica.chunk(chunk)
            raise

    def unreadable(self, chunks: Iterable[bytes]) -> dict[bytes, str]:
        """The chunks that this store, without replicas, has nowhere sound, each with what is wrong.

        Looks at the store anew, once for all of them.
        """
        indexes = [self._catalog.index, self._catalog.refresh()]
        away: StoreError | None = None
        try:
            orphans, away = self._catalog.orphans()
            indexes.append(orphans)
        except StoreError as error:  # a place that has packs is missing
            away = error
        found = {}
        for chunk in chunks:
            try:
                self._read_from(chain.from_iterable(index.each_place(chunk) for index in indexes), chunk)
            except FormatVersion:
                raise
            except StoreError as error:
                found[chunk] = str(away or error)
        return found

    def _own_chunk(self, chunk: bytes) -> memoryview:
        """As `chunk`, without replicas."""
        return self._read_from(self._places(chunk), chunk)

    def _read_from(self, places: Iterable[Place], chunk: bytes) -> memoryview:
        """A chunk from the first of these places where it is sound."""
        damage: StoreError = NotFound(f"chunk {chunk.hex()} is in no pack; run repair")
        for place in places:
            path = pack.path_of(place.pack)
            for _ in range(2):
                try:
                    payload = memoryview(
                        self._catalog.backend.read(path, place.record.offset, place.record.stored)
                    )
                    return self.decode(place.salt, place.record, payload)
                except FormatVersion:
                    raise
                except StoreError as error:
                    kind = CorruptChunk if isinstance(error, (CorruptChunk, NotFound)) else StoreError
                    damage = kind(f"chunk {chunk.hex()} in {path}: {error}")
                    if not self._catalog.evict(path):
                        break
        raise damage

    def _places(self, chunk: bytes) -> Iterator[Place]:
        """Every place of a chunk: as last known, as it is now, at last in packs that no segment names."""
        known = self._catalog.index
        yield from known.each_place(chunk)
        fresh = self._catalog.refresh()
        if fresh is not known:
            yield from fresh.each_place(chunk)
        orphans, unread = self._catalog.orphans()
        yield from orphans.each_place(chunk)
        if unread is not None:  # it may be there
            raise unread

    def decode(self, salt: bytes, record: pack.Record, payload: memoryview) -> memoryview:
        """The chunk of one record, verified. Raises CorruptChunk."""
        if len(payload) != record.stored:
            raise CorruptChunk("it is cut off")
        out = allocate(record.raw)
        plain = pack.open_payload(record, payload, self._catalog.cipher_of(salt))
        coding.decode(record.coding, plain, out)
        if _core.blake3(out, self._catalog.keys.id_key) != record.chunk:
            raise CorruptChunk("its content is not what its id says")
        return out

    def _find(self, request: Request) -> tuple[Index, Positions]:
        index = self._catalog.index
        found = index.find(request.chunks["id"])
        if (found < 0).any() or not len(index):
            index = self._catalog.refresh()
            found = index.find(request.chunks["id"])
        return index, found

    def _run(self, request: Request, index: Index, found: Positions, job: Job) -> list[int]:
        """Read one run; the rows that did not arrive sound."""
        name = pack.path_of(index.packs["id"][job.row].tobytes())
        cipher = self._catalog.cipher_of(index.packs["salt"][job.row].tobytes())
        entries = index.entries[found[job.rows]]
        bad: set[int] = set()
        try:
            if len(job.rows) == 1 and cipher is None and entries["coding"][0] == coding.RAW:
                self._catalog.backend.read_into(name, job.begin, request.out(int(job.rows[0])))
            else:
                data = _scratch(job.end - job.begin)
                self._catalog.backend.read_into(name, job.begin, data)
                bad.update(self._decode_run(request, index, found, job, data, cipher))
        except StoreError:  # the pack is shorter, cannot be read, or a collector has moved its chunks
            return [int(row) for row in job.rows]
        return sorted(bad | set(self._wrong(request, job.rows)))

    def _decode_run(
        self,
        request: Request,
        index: Index,
        found: Positions,
        job: Job,
        data: memoryview,
        cipher: Cipher | None,
    ) -> Iterator[int]:
        """Decode the records of a run to their places; the rows where that fails."""
        positions = found[job.rows]
        entries = index.entries[positions]
        begins = (entries["offset"].astype(np.int64) - job.begin).tolist()
        columns = (job.rows.tolist(), positions.tolist(), begins, entries["stored"].tolist())
        for row, position, begin, stored in zip(*columns, strict=True):
            payload = data[begin : begin + stored]
            try:
                if cipher is not None:
                    payload = pack.open_payload(index.record(position)[1], payload, cipher)
                coding.decode(int(index.entries["coding"][position]), payload, request.out(row))
            except CorruptChunk:
                yield row

    def _wrong(self, request: Request, rows: Positions) -> Iterator[int]:
        """The rows whose memory does not hash to the chunk's id. Neighbours in memory are hashed at once."""
        order = rows[np.lexsort((request.offset[rows], request.piece[rows]))]
        begins, pieces = request.offset[order], request.piece[order]
        ends = begins + request.chunks["size"][order].astype(np.int64)
        breaks = np.flatnonzero((begins[1:] != ends[:-1]) | (pieces[1:] != pieces[:-1])) + 1
        for part in np.split(np.arange(len(order)), breaks):
            begin, end = int(begins[part[0]]), int(ends[part[-1]])
            memory = request.pieces[pieces[part[0]]].out[begin:end]
            ids = _core.blake3_blocks(memory, ends[part] - begin, self._catalog.keys.id_key, 1)
            differ = (ids != request.chunks["id"][order[part]]).any(axis=1)
            yield from order[part[differ]].tolist()

    def _rescue(self, request: Request, row: int) -> None:
        """Get one chunk from another place. Raises CorruptChunk, NotFound."""
        out, chunk = request.out(row), request.chunks["id"][row].tobytes()
        data = self.chunk(chunk)
        if len(data) != len(out):
            raise CorruptChunk(f"chunk {chunk.hex()} has {len(data)} bytes, its manifest says {len(out)}")
        out[:] = data


def _plan(index: Index, found: Positions, rows: Positions) -> Iterator[Job]:
    """Runs of records that lie side by side in a pack."""
    entries = index.entries[found[rows]]
    order = np.lexsort((entries["offset"], entries["pack"]))
    rows, entries = rows[order], entries[order]
    begins = entries["offset"].astype(np.int64)
    ends = begins + entries["stored"]
    direct = (entries["coding"] == coding.RAW) & (entries["raw"] >= _DIRECT_BYTES)
    first = 0
    for i in range(1, len(rows) + 1):
        if (
            i < len(rows)
            and entries["pack"][i] == entries["pack"][first]
            and not (direct[i] or direct[i - 1])
            and begins[i] - ends[i - 1] <= _MOST_GAP
            and ends[i] - begins[first] <= RUN_BYTES
        ):
            continue
        yield Job(int(entries["pack"][first]), int(begins[first]), int(ends[first:i].max()), rows[first:i])
        first = i


def _scratch(size: int) -> memoryview:
    """Memory of this thread, to be used until it asks again."""
    memory: memoryview | None = getattr(_local, "memory", None)
    if memory is None or len(memory) < size:
        memory = _local.memory = allocate(max(size, RUN_BYTES))
    return memory[:size]
