"""What the collector must know of a store's content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import numpy as np

from thinwire.store import index as indexes
from thinwire.store.coding import DEFAULT_LEVEL
from thinwire.store.index import Ids, Index, Segment
from thinwire.store.packer import Packer
from thinwire.store.refs import Ref
from thinwire.store.survey import Census

if TYPE_CHECKING:
    from thinwire.store.store import Store

_MOST_SEGMENTS = 16


class Contents:
    """`thinwire.store.collector.Contents` of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def chunks_of(self, ref: Ref) -> Ids:
        """The chunks of a version, uint8[n, 32], from its manifest."""
        return np.asarray(self._store.catalog.manifest(ref).chunks["id"])

    def census(self) -> Census:
        """Every place of every chunk. Raises where a segment cannot be read: nothing may be deleted then."""
        index = self._store.catalog.sound_index()
        return Census(
            packs=list(index.row_of),
            chunks=np.ascontiguousarray(index.entries["id"]),
            pack_of=index.entries["pack"].astype(np.int64),
            sizes=index.entries["stored"].astype(np.int64),
        )

    def rewrite(self, chunks: Ids, packs: Sequence[bytes], heartbeat: Callable[[], None]) -> None:
        """Copy chunks into new packs, with their index. A chunk that is damaged is left out."""
        store = self._store
        index = store.catalog.sound_index()
        packer = Packer(store.backend, store.catalog.keys, store.workers, DEFAULT_LEVEL, heartbeat)
        with packer:
            for chunk, data in store.fetcher.sound(index.sized(chunks)):
                packer.put(chunk, data, None)
            with packer.drained() as rows:
                store.catalog.publish(indexes.segment_of(rows))

    def forget(self, packs: AbstractSet[bytes]) -> None:
        """Publish the index without these packs, then delete the segments that named them.

        Where there are many segments, all of them become one.
        """
        catalog = self._store.catalog
        catalog.sound_index()
        old = {
            path: segment
            for path, segment in catalog.segments.items()
            if len(catalog.segments) > _MOST_SEGMENTS or _names(segment) & packs
        }
        merged = Index(old.values())
        catalog.publish(merged.segment(np.array([name not in packs for name in merged.row_of], np.bool_)))
        for path in old:
            catalog.backend.delete(path)


def _names(segment: Segment) -> set[bytes]:
    return {name.tobytes() for name in segment.packs["id"]}
