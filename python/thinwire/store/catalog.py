"""What a store knows of itself: its backend, its keys, the index as last read, and its manifests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from thinwire.errors import CorruptChunk, NotFound, StoreError
from thinwire.store import index as indexes
from thinwire.store import manifest as manifests
from thinwire.store import pack
from thinwire.store.backend import Backend
from thinwire.store.caching import CachedBackend
from thinwire.store.index import Index, Mask, PackRow, Segment
from thinwire.store.leases import present_packs, usable_packs
from thinwire.store.manifest import Manifest
from thinwire.store.refs import Ref
from thinwire.store.sealing import Cipher, Keys

_CIPHERS = 256
_Decoded = TypeVar("_Decoded")


class Orphans(NamedTuple):
    """Packs that no segment names: the sound ones, and why one of the others could not be read, if so."""

    sound: Index
    unread: StoreError | None


class Catalog:
    """Shared by the readers and writers of one open store. Safe for several threads."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self.backend, self.keys = backend, keys
        self.damaged: dict[str, StoreError] = {}
        """Index segments that could not be read, by path."""
        self.index = Index()
        self.segments: dict[str, Segment] = {}
        self._scanned: dict[bytes, Segment | None] = {}  # packs that no segment names; None: it is damaged
        self._orphans: tuple[Index, Orphans] | None = None  # those beside this index
        self._lock = threading.Lock()
        self._cipher = lru_cache(_CIPHERS)(lambda salt: keys.cipher(salt, pack.PURPOSE))

    def refresh(self) -> Index:
        """Read the index segments that are new, forget those that are gone."""
        with self._lock:
            paths = sorted(entry.path for entry in self.backend.list("index/"))
            if set(paths) != set(self.segments) | set(self.damaged):
                self.damaged = {}
                self.segments = {
                    path: segment
                    for path in paths
                    if (segment := self.segments.get(path) or self._read_segment(path)) is not None
                }
                self.index = Index(self.segments.values())
            return self.index

    def segment_paths(self) -> list[str]:
        """The segments behind the index, the damaged ones too."""
        return [*self.segments, *self.damaged]

    def sound_index(self) -> Index:
        """A fresh index. Raises CorruptChunk where a segment of it is damaged."""
        index = self.refresh()
        for error in self.damaged.values():
            raise error
        return index

    def publish(self, segment: Segment) -> None:
        """Make an index segment durable."""
        if len(segment.packs):
            name, data = indexes.encode(segment)
            self.backend.create(f"index/{name.hex()}", [data])

    def usable(self) -> tuple[Index, Mask]:
        """A fresh index, and which of its packs a writer may count on. The writer's lease must be open."""
        packs = usable_packs(self.backend)
        index = self.refresh()
        return index, np.fromiter((name in packs for name in index.row_of), np.bool_, len(index.row_of))

    def manifest(self, ref: Ref) -> Manifest:
        """The manifest of a version. Raises CorruptChunk, and StoreError where it is missing."""
        path = manifests.path_of(ref.manifest)
        try:
            return self._decoded(
                path,
                lambda data: manifests.decode(data, ref.manifest, self.keys, ref.name, ref.version),
            )
        except NotFound:
            raise StoreError(
                f"{path}, of {ref.name}@{ref.version}, is missing; run repair, which takes it from a replica"
            ) from None

    def evict(self, path: str) -> bool:
        """Drop a damaged object from the cache; whether there was one, so that reading again makes sense."""
        return isinstance(self.backend, CachedBackend) and self.backend.evict(path)

    def orphans(self) -> Orphans:
        """The packs that no segment names. Writers that died, and power cuts, leave such.

        Reads all of them, once, also those that turn out to be damaged, and looks for others when the index
        has changed. What cannot be read is tried again.
        """
        with self._lock:
            if self._orphans is None or self._orphans[0] is not self.index or self._orphans[1].unread:
                self._orphans = self.index, self._find_orphans()
            return self._orphans[1]

    def _find_orphans(self) -> Orphans:
        known, self._scanned = self._scanned, {}
        unread = None
        for name in present_packs(self.backend).keys() - self.index.row_of.keys():
            try:
                self._scanned[name] = known[name] if name in known else self._scan(name)
            except NotFound:  # a collector was faster
                continue
            except StoreError as error:
                unread = error
        return Orphans(Index(segment for segment in self._scanned.values() if segment), unread)

    def _scan(self, pack_id: bytes) -> Segment | None:
        """What a pack says of itself; None where it is damaged. Raises StoreError where it cannot be read."""
        path = pack.path_of(pack_id)

        def decode(data: bytes) -> Segment:
            found = pack.scan(pack_id, memoryview(data))
            if found.damage:
                raise CorruptChunk(f"{path} is damaged")
            return indexes.segment_of([PackRow(pack_id, found.salt, len(data), found.records)])

        try:
            return self._decoded(path, decode)
        except CorruptChunk:
            return None

    def write_manifest(self, made: Manifest, name: str, version: int) -> str:
        """Make a manifest durable, for this version of this name alone; its id."""
        manifest_id, data = manifests.encode(made, self.keys, name, version)
        self.backend.create(manifests.path_of(manifest_id), [data])
        return manifest_id

    def cipher_of(self, salt: bytes) -> Cipher | None:
        """What opens the payloads of a pack with this salt."""
        return self._cipher(salt) if self.keys.encrypted else None

    def _read_segment(self, path: str) -> Segment | None:
        try:
            return self._decoded(path, lambda data: indexes.decode(path, data))
        except NotFound:  # a collector was faster
            return None
        except CorruptChunk as error:
            self.damaged[path] = error
            return None

    def _decoded(self, path: str, decode: Callable[[bytes], _Decoded]) -> _Decoded:
        """Read and decode an object, once more where only the cache has it damaged."""
        try:
            return decode(self.backend.read(path))
        except CorruptChunk:
            if not self.evict(path):
                raise
            return decode(self.backend.read(path))
