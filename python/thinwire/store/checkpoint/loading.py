"""Leaves of a checkpoint into memory: in parallel, straight into the tensors that wait for them, verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from thinwire._memory import batches
from thinwire.errors import CorruptChunk, FormatVersion, NotFound, StoreError
from thinwire.store.checkpoint import tensors
from thinwire.store.checkpoint.layout import Extents, Place
from thinwire.store.checkpoint.saving import OWN, STATE, Progress
from thinwire.store.checkpoint.tensors import Bytes, Spec
from thinwire.store.checkpoint.tree import Data, Json, named_leaves, tag
from thinwire.store.reader import Reader

_PROGRESS_BYTES = 256 << 20  # between two calls of a progress callback


class Read(NamedTuple):
    """Blocks, all of one extent, and the memory that they fill."""

    extent: int
    blocks: slice
    memory: Bytes


class Window(NamedTuple):
    """Part of a tensor: its rows from `first_row` on, once `read` is done."""

    read: Read
    skip: int  # bytes of the first block that lie before
    spec: Spec  # of the part
    first_row: int

    def tensor(self) -> torch.Tensor:
        """The rows."""
        return tensors.from_bytes(self.read.memory[self.skip : self.skip + self.spec.size], self.spec)


class Stored:
    """One version of a checkpoint."""

    def __init__(self, reader: Reader) -> None:
        """Raises FormatVersion where the version is none, CorruptChunk where its parts do not add up."""
        self._reader = reader
        self.what = f"{reader.ref.name}@{reader.ref.version}"
        self.said = said = reader.metadata
        try:
            self.tree: Json = said["tree"]
            self.step = int(said["step"])
            self.places = [Place.from_json(place) for place in said["leaves"]]
            self.extents = Extents(said["extents"])
            sizes = reader.chunks["size"].astype("i8")
            fits = len(sizes) == len(self.extents.ends) and (sizes == self.extents.block_sizes).all()
            inside = all(
                place.offset >= 0 and place.offset + place.size <= self.extents.sizes[place.extent]
                for place in self.places
            )
            known = all(0 <= leaf < len(self.places) for _, leaf in named_leaves(self.tree))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FormatVersion(f"{self.what} is no checkpoint of this release ({error!r})") from None
        if not (fits and inside and known):
            raise CorruptChunk(f"the parts of {self.what} do not add up; run verify")

    def read(
        self,
        fill: Sequence[tuple[int, torch.Tensor]],
        fresh: Iterable[int],
        progress: Progress | None = None,
    ) -> dict[int, Data]:
        """Fill tensors with leaves, and make new tensors or bytes of the `fresh` ones.

        Of several leaves for one tensor the last stays.
        Raises CorruptChunk naming every leaf that is damaged; tensors are then partly filled.
        """
        memory: dict[int, Bytes] = {}  # of the extents that do not go straight into a tensor
        direct: list[Read] = []
        copies: list[tuple[int, torch.Tensor]] = []
        filled: set[int] = set()  # two that fill one memory at once would leave parts of both there
        for leaf, target in fill:
            place = self.places[leaf]
            assert place.spec is not None
            into = tensors.direct(target, place.spec) if place.extent else None
            if into is not None and target.data_ptr() not in filled:
                direct.append(self._whole(place.extent, into))
            else:
                copies.append((leaf, target))
            filled.add(target.data_ptr())
        fresh = sorted(set(fresh))
        for leaf in [*(leaf for leaf, _ in copies), *fresh]:
            extent = self.places[leaf].extent
            if extent not in memory:
                memory[extent] = tensors.allocate(self.extents.sizes[extent])
        self.fetch(direct + [self._whole(*item) for item in memory.items()], progress)
        for leaf, target in copies:
            target.detach().copy_(self._tensor(leaf, memory))
        small: dict[tuple[int, int], Bytes] = {}
        return {leaf: self._fresh(leaf, memory, small) for leaf in fresh}

    def windows(self, wanted: Iterable[tuple[int, int, int]]) -> tuple[list[Window], list[Read]]:
        """How to read rows of tensors: no more than the blocks that they lie in, those of small tensors once.

        `wanted`: a leaf, its first row, and the one behind the last. Where rows do not lie one after the
        other it is all of the tensor.
        """
        reads: dict[tuple[int, int], Read] = {}
        return [self._window(*rows, reads) for rows in wanted], list(reads.values())

    def _window(self, leaf: int, begin: int, end: int, reads: dict[tuple[int, int], Read]) -> Window:
        place = self.places[leaf]
        spec = place.spec
        if spec is None:
            raise CorruptChunk(f"{self.what} has bytes where a tensor should be; run verify")
        if spec.shape and spec.shape[0] and spec.order == tuple(range(len(spec.shape))):
            row = spec.size // spec.shape[0]
            spec = spec._replace(shape=(end - begin, *spec.shape[1:]))
        else:
            row = begin = 0
        first, skip = divmod(place.offset + begin * row, self.extents.block_bytes)
        last = -(-(place.offset + begin * row + spec.size) // self.extents.block_bytes)
        base = self.extents.first_block[place.extent]
        blocks = slice(base + first, base + max(first, last))
        if (read := reads.get((blocks.start, blocks.stop))) is None:
            memory = tensors.allocate(int(self.extents.block_sizes[blocks].sum()))
            read = reads[blocks.start, blocks.stop] = Read(place.extent, blocks, memory)
        return Window(read, skip, spec, begin)

    def fetch(self, reads: list[Read], progress: Progress | None = None) -> None:
        """Fill memory. Raises CorruptChunk naming every leaf that is damaged."""
        sizes = [len(read.memory) for read in reads]
        total, done = sum(sizes), 0
        for batch in batches(sizes, _PROGRESS_BYTES if progress else max(1, total)):
            try:
                self._read_into(reads[batch])
            except (CorruptChunk, NotFound) as error:
                raise type(error)(f"{error}; {self._damage(reads)}") from None
            done += sum(sizes[batch])
            if progress is not None:
                progress(done, total)

    def _whole(self, extent: int, memory: Bytes) -> Read:
        return Read(extent, self.extents.blocks(extent), memory)

    def _read_into(self, reads: list[Read]) -> None:
        self._reader.read_into([(read.blocks, read.memory) for read in reads])

    def _damage(self, reads: list[Read]) -> str:
        """Which leaves the damage hits, in words."""
        bad = set()
        for read in reads:
            try:
                self._read_into([read])
            except StoreError:
                bad.add(read.extent)
        hit = sorted(
            path.removeprefix(f"{STATE}.") for extent in bad for path in self._names().get(extent, [])
        )
        return f"damaged in {self.what}: {', '.join(hit)}"

    def _names(self) -> dict[int, list[str]]:
        """The leaves of each extent, by path."""
        found: dict[int, list[str]] = {}
        for path, leaf in named_leaves(self.tree):
            found.setdefault(self.places[leaf].extent, []).append(path)
        return found

    def _tensor(self, leaf: int, memory: dict[int, Bytes]) -> torch.Tensor:
        place = self.places[leaf]
        assert place.spec is not None
        return tensors.from_bytes(memory[place.extent][place.offset : place.offset + place.size], place.spec)

    def _fresh(self, leaf: int, memory: dict[int, Bytes], small: dict[tuple[int, int], Bytes]) -> Data:
        """A leaf of its own memory. Those that shared theirs when they were saved share it again."""
        place = self.places[leaf]
        if place.extent:
            found = memory[place.extent]
        else:
            found = small.setdefault(
                (place.offset, place.size), memory[0][place.offset : place.offset + place.size].copy()
            )
        return found.tobytes() if place.spec is None else tensors.from_bytes(found, place.spec)


def branch(stored: Stored, name: str = STATE) -> Json:
    """The state that all ranks share, or what is the rank's own."""
    _, entries = tag(stored.tree)
    return dict(entries)[name]


def shared_state(described: Json) -> Json:
    """The description of a checkpoint that has this state, and nothing of any rank's own."""
    return {"dict": [[OWN, None], [STATE, described]]}
