"""Data that feeds training: records read natively, who trains on which of them, and what they are like.

NumPy alone is needed here; what works with torch is imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinwire._lazy import lazy_names
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

__getattr__ = lazy_names(
    __name__,
    {
        "BatchDataset": "torch_datasets",
        "DevicePrefetcher": "prefetcher",
        "RecordDataset": "torch_datasets",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
