"""One rank of the torch.distributed.checkpoint tests: dcp_rank.py FOLDER saves a sharded state."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from thinwire.store.checkpoint.distributed import StorageReader, StorageWriter


def full(seed: int, *shape: int) -> torch.Tensor:
    """The same values on every rank."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def state(empty: bool = False) -> dict[str, Any]:
    """Tensors sharded by rows, by columns, and not at all; and plain values."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    values = [full(1, 600, 700), full(2, 30, 50), full(3, 41)]
    if empty:
        values = [torch.zeros_like(value) for value in values]
    rows, columns, whole = values
    return {
        "model": {
            "rows": distribute_tensor(rows, mesh, [Shard(0)]),
            "columns": distribute_tensor(columns, mesh, [Shard(1)]),
            "whole": distribute_tensor(whole, mesh, [Replicate()]),
        },
        "plain": torch.zeros(7) if empty else torch.arange(7.0),
        "step": 0 if empty else 12,
        "betas": (0.0, 0.0) if empty else (0.9, 0.95),
    }


def main(folder: str) -> None:
    dist.init_process_group("gloo")
    writer = StorageWriter(folder, "sharded")
    dcp.save(state(), storage_writer=writer)
    if hasattr(dcp, "async_save"):
        dcp.async_save(state(), storage_writer=writer).result()
    found = state(empty=True)
    dcp.load(found, storage_reader=StorageReader(folder, "sharded@1"))
    wanted = state()
    for name, tensor in wanted["model"].items():
        assert torch.equal(found["model"][name].to_local(), tensor.to_local()), name
    assert torch.equal(found["plain"], wanted["plain"])
    assert (found["step"], found["betas"]) == (12, (0.9, 0.95))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
