"""A store for checkpoints and data: content-addressed, versioned, in a folder or at any fsspec URL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_LAZY = {
    "Checkpointer": "checkpoint",
    "Save": "checkpoint",
    "Skipped": "checkpoint",
    "StorageReader": "checkpoint.distributed",
    "StorageWriter": "checkpoint.distributed",
    "Store": "store",
    "Version": "store",
    "export_safetensors": "checkpoint.safetensors",
    "import_safetensors": "checkpoint.safetensors",
}
"""Names that need optional packages, and the modules they come from."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'thinwire.store' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"thinwire.store.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"thinwire.store.{name} needs PyTorch, which is not installed: pip install 'thinwire[torch]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
