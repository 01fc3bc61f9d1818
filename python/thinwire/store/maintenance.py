"""Looking at a whole store: what it holds, what is damaged, and whom the damage hits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thinwire.errors import FormatVersion, NotFound, StoreError
from thinwire.store import manifest as manifests
from thinwire.store import pack, refs
from thinwire.store.backend import Backend, is_unwritable
from thinwire.store.index import CHUNK, Chunks, Index
from thinwire.store.leases import COMMITTED, CONDEMNED, PACKS, Lease, read_condemned, state_of_lease
from thinwire.store.locations import Holding
from thinwire.store.manifest import Manifest
from thinwire.store.metering import Meter, Progress
from thinwire.store.refs import Ref
from thinwire.store.survey import as_void, merge

if TYPE_CHECKING:
    from thinwire.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """Bytes `begin` to `end` of a version that cannot be read; `end` is None where its length is unknown."""

    name: str
    version: int
    begin: int
    end: int | None


@dataclass(frozen=True)
class Damage:
    """One damaged or missing object or chunk, why, and the data it hits. No hits: nothing needs it, or a copy
    of it is sound."""

    what: str
    reason: str
    hits: list[Hit] = field(default_factory=list)

    def __str__(self) -> str:
        ranges = (
            f"{hit.name}@{hit.version} bytes {hit.begin} to {hit.end or 'its end'}" for hit in self.hits
        )
        return f"{self.what}: {self.reason}; hits {', '.join(ranges) or 'no data'}"


@dataclass(frozen=True)
class Report:
    """What `verify` or `repair` found. True where nothing is damaged."""

    damage: list[Damage]
    packs: int
    chunks: int
    versions: int

    def __bool__(self) -> bool:
        return not self.damage

    @property
    def hits(self) -> list[Hit]:
        """All data that cannot be read."""
        return [hit for damage in self.damage for hit in damage.hits]


@dataclass(frozen=True)
class Stats:
    """Counts, and sizes in bytes.

    `logical` is what all versions hold, `unique` their distinct chunks, `stored` all packs, `garbage` the
    part of `stored` that no version needs.
    """

    names: int
    versions: int
    packs: int
    chunks: int
    logical: int
    unique: int
    stored: int
    garbage: int

    @property
    def dedup_ratio(self) -> float:
        """How many times smaller finding equal chunks makes it."""
        return self.logical / self.unique if self.unique else 1.0

    @property
    def ratio(self) -> float:
        """How many times smaller the store is than what it holds."""
        return self.logical / self.stored if self.stored else 1.0


MISSING = "it is missing"
"""Said of a pack. No damage while nothing needs it: writers and collectors that paused for long publish index
segments with packs that have been deleted, until the next collection."""


class Unreadable(NamedTuple):
    """A version whose ref or manifest is damaged or missing."""

    name: str
    version: int
    path: str
    error: StoreError


class Census(NamedTuple):
    """The versions that count, and those that cannot be read."""

    versions: list[Ref]
    logical: int  # bytes of all versions
    chunks: Chunks  # the distinct chunks of all versions, dtype CHUNK
    damage: list[Unreadable]


def distinct(parts: Iterable[Chunks]) -> Chunks:
    """The distinct chunks of versions, dtype CHUNK."""
    return merge(parts, _distinct, np.zeros(0, CHUNK))


def _distinct(chunks: Chunks) -> Chunks:
    _, first = np.unique(as_void(chunks["id"]), return_index=True)
    return chunks[first]


def census(store: Store) -> Census:
    """Read every ref and manifest. Versions that do not count, or are deleted meanwhile, are left out."""
    versions: list[Ref] = []
    damage: list[Unreadable] = []
    logical = 0

    def chunks() -> Iterator[Chunks]:
        nonlocal logical
        for ref, made in _readable(store, damage):
            versions.append(ref)
            logical += made.size
            yield made.chunks

    every = distinct(chunks())
    return Census(versions, logical, every, damage)


def _readable(store: Store, damage: list[Unreadable]) -> Iterator[tuple[Ref, Manifest]]:
    for name, numbers in store.refs.numbers().items():
        for version in filter(numbers.has, numbers.all):
            path = refs.path_of(name, version, numbers.attempts[version])
            try:
                ref = store.refs.read(name, version, numbers.attempts[version])
                if state_of_lease(store.backend, ref.lease) != COMMITTED:
                    continue
                path = manifests.path_of(ref.manifest)
                made = store.catalog.manifest(ref)
            except FormatVersion:
                raise
            except StoreError as error:
                now = store.refs.numbers(f"{name}/").get(name)
                if now and now.has(version):
                    damage.append(Unreadable(name, version, path, error))
            else:
                yield ref, made


def stats(store: Store) -> Stats:
    """Count and add up. Reads the index and all manifests."""
    index = store.catalog.refresh()
    counted = census(store)
    ids = counted.chunks["id"]
    found = index.find(ids)
    entries = index.entries[found[found >= 0]]
    packs = list(store.backend.list(PACKS))
    stored = sum(entry.size for entry in packs)
    return Stats(
        names=len({ref.name for ref in counted.versions}),
        versions=len(counted.versions),
        packs=len(packs),
        chunks=len(ids),
        logical=counted.logical,
        unique=int(entries["raw"].sum(dtype=np.int64)),
        stored=stored,
        garbage=max(
            0, stored - int(entries["stored"].sum(dtype=np.int64)) - pack.RECORD_BYTES * len(entries)
        ),
    )


def verify(store: Store, deep: bool, progress: Progress | None = None) -> Report:
    """Check every object. Beside collectors and writers."""
    with _lease_of_a_reader(store.backend) as heartbeat:
        index = store.catalog.refresh()
        damage = [Damage(path, str(error)) for path, error in store.catalog.damaged.items()]
        holdings = store.locations()
        meter = Meter(progress, int(index.packs["size"].sum()))
        damage += [Damage(f"location {one.location.url}", str(one.error)) for one in holdings if one.error]
        checked = list(check_packs(store, heartbeat, holdings, deep, meter))
        counted = census(store)
        sound = np.zeros(len(index), np.bool_)
        for one in checked:
            sound[one.sound] = True
        lost = _unreadable(store, counted, sound)
        damage += [
            Damage(pack.path_of(one.id), reason)
            for one in checked
            if one.damage != [MISSING] or _holds_any(index, one.id, lost)
            for reason in one.damage
        ]
        damage += _unreadable_versions(counted)
        damage += _unreadable_condemned(store)
        damage += chunk_damage(store, counted, lost)
        return Report(damage, len(checked), len(index), len(counted.versions) + len(counted.damage))


@contextlib.contextmanager
def _lease_of_a_reader(backend: Backend) -> Iterator[Callable[[], None]]:
    """Keep collectors from deleting what is being looked at; to be called now and then.

    Where nothing can be written there is no lease: who can collect there must not do it meanwhile.
    """
    try:
        lease = Lease.open(backend)
    except StoreError as error:
        if not is_unwritable(error):
            raise
        _log.warning(
            "no lease in a store that cannot be written: what a collector deletes meanwhile looks lost"
        )
        yield lambda: None
        return
    with lease:
        yield lease.heartbeat
        lease.commit()  # nothing was published: a collector need not keep this end for ever


@dataclass(frozen=True)
class CheckedPack:
    """One pack of the index: what is wrong with it, and the positions in the index of its sound chunks."""

    id: bytes
    damage: list[str]
    sound: np.ndarray[Any, np.dtype[np.int64]]


def check_packs(
    store: Store, heartbeat: Callable[[], None], holdings: Sequence[Holding], deep: bool, meter: Meter
) -> Iterator[CheckedPack]:
    """Check the packs of the index as last read, several at a time."""
    index = store.catalog.index
    sizes = {entry.path: entry.size for one in holdings for entry in one.packs}
    check = _check_deep if deep else _check_size

    def work(row: int) -> CheckedPack:
        return check(store, row, index.of_pack(row), sizes)

    for size, one in zip(
        index.packs["size"], store.workers.coders.map(work, range(len(index.packs))), strict=True
    ):
        heartbeat()
        meter.add(int(size))
        yield one


def _check_size(store: Store, row: int, positions: Any, sizes: dict[str, int]) -> CheckedPack:
    index = store.catalog.index
    entries, name = index.entries[positions], index.packs["id"][row].tobytes()
    path = pack.path_of(name)
    if path not in sizes:
        return CheckedPack(name, [MISSING], positions[:0])
    inside = entries["offset"] + entries["stored"] <= sizes[path]
    return CheckedPack(name, _wrong_size(index, row, sizes[path]), positions[inside])


def _wrong_size(index: Index, row: int, size: int) -> list[str]:
    expected = int(index.packs["size"][row])
    return [] if size == expected else [f"it has {size} bytes, not {expected}"]


def _check_deep(store: Store, row: int, positions: Any, sizes: dict[str, int]) -> CheckedPack:
    index = store.catalog.index
    name, salt = index.packs["id"][row].tobytes(), index.packs["salt"][row].tobytes()
    try:
        data = memoryview(store.backend.read(pack.path_of(name)))
        damage = _wrong_size(index, row, len(data)) + pack.scan(name, data).damage
    except FormatVersion:
        raise
    except NotFound:
        return CheckedPack(name, [MISSING], positions[:0])
    except StoreError as error:
        return CheckedPack(name, [str(error)], positions[:0])
    sound = []
    for position in positions.tolist():
        _, record = index.record(position)
        try:
            store.fetcher.decode(salt, record, data[record.offset : record.offset + record.stored])
            sound.append(position)
        except FormatVersion:
            raise
        except StoreError as error:
            damage.append(f"chunk {record.chunk.hex()} (record {record.number}): {error}")
    return CheckedPack(name, damage, np.array(sound, np.int64))


def _unreadable(store: Store, counted: Census, sound: Any) -> dict[bytes, str]:
    """The chunks that versions need and no pack has, each with what is wrong."""
    index = store.catalog.index
    good = as_void(index.entries["id"][sound])
    ids = as_void(counted.chunks["id"])
    lost = {chunk.tobytes() for chunk in ids[~np.isin(ids, good)]}
    return store.fetcher.unreadable(lost) if lost else {}  # a collector may have moved some meanwhile


def _holds_any(index: Index, name: bytes, lost: Mapping[bytes, str]) -> bool:
    """Whether one of these chunks is in a pack, as the index has it."""
    return any(chunk.tobytes() in lost for chunk in index.entries["id"][index.of_pack(index.row_of[name])])


def chunk_damage(store: Store, counted: Census, lost: dict[bytes, str]) -> list[Damage]:
    """For each lost chunk the byte ranges it hits."""
    if not lost:
        return []
    hits: dict[bytes, list[Hit]] = {chunk: [] for chunk in lost}
    for ref in counted.versions:
        try:
            made = store.catalog.manifest(ref)
        except StoreError:  # it was there before: deleted meanwhile
            continue
        ends = np.cumsum(made.chunks["size"], dtype=np.int64)
        for i, chunk in enumerate(map(bytes, made.chunks["id"])):
            if chunk in lost:
                begin = int(ends[i]) - int(made.chunks["size"][i])
                hits[chunk].append(Hit(ref.name, ref.version, begin, int(ends[i])))
    return [Damage(f"chunk {chunk.hex()}", reason, hits[chunk]) for chunk, reason in lost.items()]


def _unreadable_versions(counted: Census) -> Iterator[Damage]:
    for one in counted.damage:
        yield Damage(one.path, str(one.error), [Hit(one.name, one.version, 0, None)])


def _unreadable_condemned(store: Store) -> Iterator[Damage]:
    """While one of these is damaged nobody can write: which packs are about to go is unknown."""
    for entry in list(store.backend.list(CONDEMNED)):
        try:
            read_condemned(store.backend, entry.path)
        except StoreError as error:
            yield Damage(entry.path, str(error))
