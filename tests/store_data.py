"""Data for stores, and stores opened again."""

from __future__ import annotations

from typing import Any

import numpy as np

from thinwire.store.store import Store

KEY = b"0123456789abcdef"


def random_bytes(size: int, seed: int = 0) -> bytes:
    """The same bytes for the same seed."""
    return np.random.default_rng(seed).bytes(size)


def again(store: Store, **options: Any) -> Store:
    """The same store, opened anew."""
    key = KEY if store.catalog.keys.encrypted else None
    return Store(store.backend, key=key, create=False, threads=2, **options)
