"""A store for checkpoints and data: content-addressed, versioned, in a folder or at any fsspec URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinwire._lazy import lazy_names
from thinwire.store.backend import Backend, backend_for
from thinwire.store.records import DedupReport, dedup_records

if TYPE_CHECKING:
    from thinwire.store.checkpoint import Checkpointer, Save, Skipped
    from thinwire.store.checkpoint.distributed import StorageReader, StorageWriter
    from thinwire.store.checkpoint.safetensors import export_safetensors, import_safetensors
    from thinwire.store.store import Store, Version

__all__ = [
    "Backend",
    "Checkpointer",
    "DedupReport",
    "Save",
    "Skipped",
    "StorageReader",
    "StorageWriter",
    "Store",
    "Version",
    "backend_for",
    "dedup_records",
    "export_safetensors",
    "import_safetensors",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Checkpointer": "checkpoint",
        "Save": "checkpoint",
        "Skipped": "checkpoint",
        "StorageReader": "checkpoint.distributed",
        "StorageWriter": "checkpoint.distributed",
        "Store": "store",
        "Version": "store",
        "export_safetensors": "checkpoint.safetensors",
        "import_safetensors": "checkpoint.safetensors",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
