"""Where the leaves of a checkpoint lie in its bytes.

Large leaves make an extent each, cut into blocks from its own start, so that a block that did not change is
the same chunk whatever came before it. The small ones lie together in extent 0. Leaves that share memory
share their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from thinwire.errors import CorruptChunk
from thinwire.store.checkpoint import tensors
from thinwire.store.checkpoint.tensors import Spec
from thinwire.store.checkpoint.tree import Data, Leaf

BLOCK_BYTES = 4 << 20
"""Smaller ones find more that did not change; loading then spends its time on single blocks."""
LARGE_BYTES = 64 << 10
"""From here on a leaf is an extent of its own."""
_ALIGNMENT = 16  # of small leaves in their extent: what the largest element needs

Offsets = np.ndarray[Any, np.dtype[np.int64]]


class Place(NamedTuple):
    """Where one leaf lies, and what it is: bytes where `spec` is None."""

    extent: int
    offset: int
    size: int
    spec: Spec | None

    def as_json(self) -> list[Any]:
        """What a manifest says."""
        return [self.extent, self.offset, self.size, *(self.spec or ())]

    @classmethod
    def from_json(cls, found: Sequence[Any]) -> Place:
        """What a manifest said. Raises CorruptChunk."""
        extent, offset, size, *rest = found
        spec = Spec(rest[0], tuple(rest[1]), tuple(rest[2])) if rest else None
        if spec and (spec.size != size or sorted(spec.order) != list(range(len(spec.shape)))):
            raise CorruptChunk("the checkpoint has a tensor whose size does not fit; run verify")
        return cls(extent, offset, size, spec)


class Extents:
    """Sizes of the extents, and where their blocks begin and end in all the bytes of a checkpoint."""

    def __init__(self, sizes: Sequence[int], block_bytes: int = BLOCK_BYTES) -> None:
        self.sizes = list(sizes)
        self.block_bytes = block_bytes
        counts = [-(-size // block_bytes) for size in self.sizes]
        self.first_block: list[int] = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self.begins: list[int] = [0, *np.cumsum(self.sizes, dtype=np.int64).tolist()]
        self.ends: Offsets = np.concatenate(
            [
                np.minimum(np.arange(1, count + 1) * block_bytes, size) + begin
                for count, size, begin in zip(counts, self.sizes, self.begins, strict=False)
            ]
            or [np.zeros(0)]
        ).astype(np.int64)

    @property
    def size(self) -> int:
        """Bytes of all extents."""
        return self.begins[-1]

    @property
    def block_sizes(self) -> Offsets:
        """Bytes of each block."""
        return np.diff(self.ends, prepend=0)

    def blocks(self, extent: int) -> slice:
        """The blocks of one extent."""
        return slice(self.first_block[extent], self.first_block[extent + 1])


class Source(NamedTuple):
    """Bytes to be saved: one extent, or one leaf of extent 0."""

    path: str
    extent: int
    offset: int
    data: torch.Tensor  # flat, uint8
    element_size: int | None


class Layout(NamedTuple):
    """The places of all leaves, and each distinct piece of memory once."""

    places: list[Place]
    extents: Extents
    sources: list[Source]


def lay_out(leaves: Sequence[Leaf]) -> Layout:
    """Give every leaf a place. Raises InvalidArgument for tensors that are not plain memory."""
    places: list[Place] = []
    sources: list[Source] = []
    sizes = [0]
    seen: dict[tuple[Any, ...], tuple[int, int]] = {}
    for leaf in leaves:
        flat, spec = _flat(leaf)
        identity = (flat.device, flat.data_ptr(), len(flat)) if len(flat) else (None, leaf.path)
        if identity not in seen:
            seen[identity] = extent, offset = next_place(sizes, len(flat))
            width = tensors.element_size(spec) if spec else None
            sources.append(Source(leaf.path, extent, offset, flat, width))
        places.append(Place(*seen[identity], len(flat), spec))
    return Layout(places, Extents(sizes), sources)


def next_place(sizes: list[int], size: int) -> tuple[int, int]:
    """Extent and offset of another leaf; `sizes` of the extents so far grows by it."""
    if size >= LARGE_BYTES:
        sizes.append(size)
        return len(sizes) - 1, 0
    offset = -(-sizes[0] // _ALIGNMENT) * _ALIGNMENT
    sizes[0] = offset + size
    return 0, offset


def _flat(leaf: Leaf) -> tuple[torch.Tensor, Spec | None]:
    data: Data = leaf.data
    if isinstance(data, bytes):
        return torch.from_numpy(np.frombuffer(data, np.uint8).copy()), None
    tensors.check(data, leaf.path)
    flat = tensors.dense(data)
    return flat, tensors.spec_of(data)
