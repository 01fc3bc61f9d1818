"""The ranks that torchrun started, for those who want its store without a process group."""

from __future__ import annotations

from torch.distributed import Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous


def join() -> tuple[Store, int, int]:
    """Return torchrun's store, this rank, and the number of ranks."""
    store, rank, world_size = next(rendezvous("env://"))
    return store, rank, world_size
