"""What torch.distributed.checkpoint says of a checkpoint, as JSON: torch itself would pickle it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from thinwire.errors import CorruptChunk, InvalidArgument
from thinwire.store.checkpoint import tree
from thinwire.store.checkpoint.tensors import dtype_named
from thinwire.store.checkpoint.tree import Json


class Where(NamedTuple):
    """The place of one item: a version that holds a rank's part, and the item's number there."""

    part: str
    item: int


def to_json(metadata: Metadata) -> Json:
    """Everything that `from_json` needs. Raises InvalidArgument for what a planner of one's own put in."""
    planner_data, leaves = tree.flatten(metadata.planner_data)
    if leaves:
        raise InvalidArgument(f"the planner's data has a tensor or bytes at {leaves[0].path}; leave them out")
    found: dict[MetadataIndex, Where] = metadata.storage_data or {}
    return {
        "state": [[name, _entry_to_json(entry)] for name, entry in metadata.state_dict_metadata.items()],
        "planner": planner_data,
        "items": [
            [index.fqn, None if index.offset is None else list(index.offset), index.index, *where]
            for index, where in found.items()
        ],
    }


def from_json(said: Json) -> Metadata:
    """Raises CorruptChunk where it does not make sense."""
    try:
        return Metadata(
            state_dict_metadata={name: _entry_from_json(entry) for name, entry in said["state"]},
            planner_data=tree.build(said["planner"], _no_leaf),
            storage_data={
                MetadataIndex(fqn, offset, index): Where(str(part), int(item))
                for fqn, offset, index, part, item in said["items"]
            },
            storage_meta=StorageMeta(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptChunk(
            f"the checkpoint's description does not make sense ({error!r}); run verify"
        ) from None


def _entry_to_json(entry: TensorStorageMetadata | BytesStorageMetadata) -> Json:
    if isinstance(entry, BytesStorageMetadata):
        return None
    return {
        "dtype": str(entry.properties.dtype).removeprefix("torch."),
        "requires_grad": entry.properties.requires_grad,
        "size": list(entry.size),
        "chunks": [[list(chunk.offsets), list(chunk.sizes)] for chunk in entry.chunks],
    }


def _entry_from_json(said: Json) -> TensorStorageMetadata | BytesStorageMetadata:
    if said is None:
        return BytesStorageMetadata()
    properties = TensorProperties(dtype=dtype_named(said["dtype"]), requires_grad=said["requires_grad"])
    chunks = [ChunkStorageMetadata(torch.Size(at), torch.Size(sizes)) for at, sizes in said["chunks"]]
    return TensorStorageMetadata(properties, torch.Size(said["size"]), chunks)


def _no_leaf(number: int) -> Any:
    raise ValueError("it names a tensor where none can be")
