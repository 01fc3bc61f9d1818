"""torch.distributed.checkpoint into and out of a store: `dcp.save(state, storage_writer=StorageWriter(...))`.

Every rank commits what the plan gives it as a version of `<name>/rank<i>`; the coordinator then commits the
version of `<name>` that lists these parts, and that is the checkpoint.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader as TorchReader
from torch.distributed.checkpoint.storage import StorageWriter as TorchWriter
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from thinwire.errors import InvalidArgument, NotBuilt
from thinwire.store.checkpoint import dcp_metadata, tree
from thinwire.store.checkpoint.dcp_metadata import Where
from thinwire.store.checkpoint.layout import lay_out
from thinwire.store.checkpoint.loading import Stored
from thinwire.store.checkpoint.saving import LEVEL, describe, store_snapshot
from thinwire.store.checkpoint.staging import Key, Known, Snapshot, Staging
from thinwire.store.checkpoint.steps import PART_KIND, Steps
from thinwire.store.index import CHUNK
from thinwire.store.refs import check_name, parse
from thinwire.store.store import Store

KIND = "dcp checkpoint"


class StorageWriter(TorchWriter):
    """Where `dcp.save` and `dcp.async_save` write: a new version of `name`, which `checkpoint_id` may change.

    `store` is a Store, or a path or url of one, which `options` (as Store's) open. Kept for the next save,
    it knows again what did not change. Objects other than tensors are stored as Checkpointer's, not pickled.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        name: str = "checkpoint",
        *,
        level: int = LEVEL,
        **options: Any,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else Store(store, **options)
        self.name = check_name(name)
        self._level = level
        self._staging = Staging()
        self._known: dict[str, Mapping[Key, Known]] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another save, to the name `checkpoint_id` where it is given."""
        if checkpoint_id is not None:
            self.name = check_name(os.fspath(checkpoint_id))

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Raises NotBuilt for `use_collectives=False`: without a coordinator nobody commits."""
        if not kwargs.get("use_collectives", True):
            raise NotBuilt("a save without coordination of the ranks; leave use_collectives=True")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Give each rank the number of its part."""
        return [dataclasses.replace(plan, storage_data=rank) for rank, plan in enumerate(plans)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Store this rank's items; durable, but no checkpoint yet, when it returns."""
        name = f"{self.name}/rank{plan.storage_data or 0}"
        described, leaves = tree.flatten({_label(item): _resolve(item, planner) for item in plan.items})
        layout = lay_out(leaves)
        snapshot = Snapshot(layout, self._staging, self._known.pop(name, {}), in_place=True)
        snapshot.take(self.store.workers.coders)
        metadata = describe(described, layout, PART_KIND, 0)
        ref, _ = store_snapshot(self.store, name, snapshot, metadata, self._level, None)
        self._known[name] = snapshot.known()
        part = f"{ref.name}@{ref.version}"
        sizes = [
            sum(layout.places[leaf].size for _, leaf in tree.named_leaves(d)) for _, d in described["dict"]
        ]
        done: Future[list[WriteResult]] = Future()
        done.set_result(
            [
                WriteResult(item.index, size, Where(part, number))
                for number, (item, size) in enumerate(zip(plan.items, sizes, strict=True))
            ]
        )
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Commit the checkpoint."""
        metadata.storage_data = {result.index: result.storage_data for part in results for result in part}
        parts = sorted({where.part for where in metadata.storage_data.values()})
        said = {"kind": KIND, "size": 0, "parts": parts, "dcp": dcp_metadata.to_json(metadata)}
        with self.store.writer(self.name) as writer:
            writer.commit(said, np.zeros(0, CHUNK))
        Steps(self.store, self.name).delete_orphans(parts)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return _is_name(checkpoint_id)

    def storage_meta(self) -> StorageMeta | None:
        return StorageMeta(checkpoint_id=self.name)


class StorageReader(TorchReader):
    """Where `dcp.load` reads: the newest version of `name`, or "name@3". Every rank reads only its bytes."""

    def __init__(
        self, store: Store | str | os.PathLike[str], name: str = "checkpoint", **options: Any
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else Store(store, create=False, **options)
        parse(name)
        self.name = name
        self._where: dict[Any, Where] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load, of `checkpoint_id` where it is given."""
        if checkpoint_id is not None:
            parse(os.fspath(checkpoint_id))
            self.name = os.fspath(checkpoint_id)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Raises NotFound, and InvalidArgument where the version is no such checkpoint."""
        said = self.store.reader(self.name).metadata
        if said.get("kind") != KIND:
            raise InvalidArgument(
                f"{self.name} was not saved by torch.distributed.checkpoint; use Checkpointer"
            )
        return dcp_metadata.from_json(said["dcp"])

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        self._where = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read this rank's items, each part's at once."""
        by_part: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            by_part.setdefault(self._where[item.storage_index].part, []).append(item)
        for part, items in by_part.items():
            self._read_part(Stored(self.store.reader(part)), items, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _read_part(self, stored: Stored, items: list[ReadItem], planner: LoadPlanner) -> None:
        described = [entry for _, entry in tree.tag(stored.tree)[1]]
        objects = [item for item in items if item.type == LoadItemType.BYTE_IO]
        tensors = [item for item in items if item.type != LoadItemType.BYTE_IO]
        wanted = {item: described[self._where[item.storage_index].item] for item in items}
        leaves = {leaf for item in objects for _, leaf in tree.named_leaves(wanted[item])}
        found = stored.read([], leaves)
        for item in objects:
            planner.load_bytes(item, _as_stream(tree.build(wanted[item], found.__getitem__)))
        windows, reads = stored.windows((tree.tag(wanted[item])[1], *_rows(item)) for item in tensors)
        stored.fetch(reads)
        for item, window in zip(tensors, windows, strict=True):
            target = planner.resolve_tensor(item).detach()
            target.copy_(_narrow(window.tensor(), item, window.first_row))
            planner.commit_tensor(item, target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return _is_name(checkpoint_id)


def _label(item: WriteItem) -> str:
    """What names an item among those of its rank."""
    offset = item.index.offset
    return item.index.fqn if offset is None else f"{item.index.fqn}{list(offset)}"


def _resolve(item: WriteItem, planner: SavePlanner) -> Any:
    """A tensor, or an object as it is: torch's planner would pickle it. Others' planners may give bytes."""
    if item.type == WriteItemType.BYTE_IO and _is_torchs(planner):
        return planner.lookup_object(item.index)  # type: ignore[attr-defined]
    data = planner.resolve_data(item)
    return data.detach() if isinstance(data, torch.Tensor) else data.getvalue()


def _is_torchs(planner: SavePlanner) -> bool:
    return isinstance(planner, DefaultSavePlanner) and all(
        getattr(type(planner), method) is getattr(DefaultSavePlanner, method)
        for method in ("resolve_data", "lookup_object", "transform_object")
    )


def _as_stream(value: Any) -> io.BytesIO:
    """What `load_bytes` expects of an object. Pickled and read again here, it never was in the store."""
    if isinstance(value, bytes):
        return io.BytesIO(value)
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return stream


def _rows(item: ReadItem) -> tuple[int, int]:
    """The range of the first dimension that an item needs."""
    if not item.lengths:
        return 0, 1
    return item.storage_offsets[0], item.storage_offsets[0] + item.lengths[0]


def _narrow(tensor: torch.Tensor, item: ReadItem, first_row: int) -> torch.Tensor:
    for axis, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
        tensor = tensor.narrow(axis, offset - (0 if axis else first_row), length)
    return tensor


def _is_name(checkpoint_id: str | os.PathLike[str]) -> bool:
    try:
        parse(os.fspath(checkpoint_id))
    except InvalidArgument:
        return False
    return True
