"""Who takes how much space in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinwire.store.index import Ids, Index

if TYPE_CHECKING:
    from thinwire.store.store import Store


@dataclass(frozen=True)
class Usage:
    """Sizes of one name in bytes.

    `logical` is what its versions hold, `unique` their distinct chunks, `stored` these as they lie in packs,
    `own` the part of `stored` that no other name of the store needs.
    """

    name: str
    versions: int
    logical: int
    unique: int
    stored: int
    own: int


def usage(store: Store, prefix: str = "") -> list[Usage]:
    """The sizes of the names that begin with `prefix`. Reads the index and all manifests."""
    index = store.catalog.refresh()
    found = [_name_usage(store, index, name) for name in store.ls("")]
    users = np.zeros(len(index), np.int64)
    for _, positions in found:
        users[positions] += 1
    stored = index.entries["stored"].astype(np.int64)
    return [
        Usage(**sizes, own=int(stored[positions][users[positions] == 1].sum()))
        for sizes, positions in found
        if sizes["name"].startswith(prefix)
    ]


def _name_usage(store: Store, index: Index, name: str) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """What one name takes, and where in the index its chunks are."""
    manifests = [store.catalog.manifest(ref) for ref in store.versions(name)]
    ids: Ids = np.concatenate([np.zeros((0, 32), np.uint8), *(made.chunks["id"] for made in manifests)])
    positions = np.unique(index.find(ids))
    positions = positions[positions >= 0]
    entries = index.entries[positions]
    sizes = {
        "name": name,
        "versions": len(manifests),
        "logical": sum(made.size for made in manifests),
        "unique": int(entries["raw"].sum(dtype=np.int64)),
        "stored": int(entries["stored"].sum(dtype=np.int64)),
    }
    return sizes, positions
