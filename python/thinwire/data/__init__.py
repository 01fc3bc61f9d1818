"""Data that feeds training: records read natively, who trains on which of them, and what they are like.

NumPy alone is needed here; what works with torch is imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thinwire.data.balanced import BalancedBatchSampler
from thinwire.data.batches import Batch
from thinwire.data.classes import ClassBalance, class_weights
from thinwire.data.cost import Cost, fit_cost
from thinwire.data.drift import Drift, drift
from thinwire.data.elastic import ElasticSampler
from thinwire.data.faults import ReaderReport
from thinwire.data.pipeline import NamedBatch
from thinwire.data.quality import Quality
from thinwire.data.ragged import RaggedBatch
from thinwire.data.reader import RecordReader
from thinwire.data.shard_writer import write_shards
from thinwire.data.shards import ShardIndex
from thinwire.data.shares import WeightedShares

if TYPE_CHECKING:
    from thinwire.data.prefetcher import DevicePrefetcher
    from thinwire.data.torch_datasets import BatchDataset, RecordDataset

__all__ = [
    "BalancedBatchSampler",
    "Batch",
    "BatchDataset",
    "ClassBalance",
    "Cost",
    "DevicePrefetcher",
    "Drift",
    "ElasticSampler",
    "NamedBatch",
    "Quality",
    "RaggedBatch",
    "ReaderReport",
    "RecordDataset",
    "RecordReader",
    "ShardIndex",
    "WeightedShares",
    "class_weights",
    "drift",
    "fit_cost",
    "write_shards",
]

_LAZY = {
    "BatchDataset": "torch_datasets",
    "DevicePrefetcher": "prefetcher",
    "RecordDataset": "torch_datasets",
}
"""Names that need torch, and the modules they come from."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'thinwire.data' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"thinwire.data.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"thinwire.data.{name} needs PyTorch, which is not installed: pip install 'thinwire[torch]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
