"""The faces of a RecordReader that torch's DataLoader knows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from thinwire.data.reader import RecordReader
from thinwire.data.wanted import in_batches
from thinwire.errors import InvalidArgument

_AS_IT_IS = -1  # in the place of an epoch: nobody chose one


class RecordDataset(Dataset[Any]):
    """A map-style dataset: `dataset[i]` is a record. A whole batch is read at once (`__getitems__`).

    Arrays become tensors that share their memory. In a worker process the files are opened anew.
    """

    def __init__(self, reader: RecordReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Any:
        return as_tensor(self.reader[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The records of one batch, each for itself, as a `collate_fn` takes them."""
        batch = as_tensor(self.reader.read(indices))
        return list(batch)


class BatchDataset(IterableDataset[Any]):
    """The batches of a reader in a sampler's order, for `DataLoader(dataset, batch_size=None)`.

    Of n worker processes, each reads every n-th batch, so the loader gives them in the sampler's order.
    `sampler`, `batch_size`, `prefetch`: as for `RecordReader.batches`.

    Workers have copies of the sampler. With `persistent_workers=True` these stay as they were made: begin
    each epoch with `set_epoch`, of which they hear.
    """

    def __init__(
        self,
        reader: RecordReader,
        sampler: Iterable[Any] | None = None,
        *,
        batch_size: int | None = None,
        prefetch: int | None = None,
    ) -> None:
        self.reader, self.sampler = reader, sampler
        self.batch_size, self.prefetch = batch_size, prefetch
        self._epoch = _AS_IT_IS  # in which this copy of the sampler is
        self._shared_epoch = torch.full((), _AS_IT_IS)
        self._share_epoch()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share_epoch()  # which a copy does not yet, unless it is a worker's

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, here and in workers: as the sampler's own `set_epoch`."""
        self._enter(epoch)
        self._shared_epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        if (epoch := int(self._shared_epoch)) != self._epoch:  # a worker that has been told
            self._enter(epoch)
        every = range(len(self.reader)) if self.sampler is None else self.sampler
        order, worker = in_batches(every, self.batch_size), get_worker_info()
        if worker is not None:
            order = itertools.islice(order, worker.id, None, worker.num_workers)
        return map(as_tensor, self.reader.batches(order, prefetch=self.prefetch))

    def _share_epoch(self) -> None:
        self._shared_epoch.share_memory_()  # type: ignore[no-untyped-call]

    def _enter(self, epoch: int) -> None:
        sampler: Any = self.sampler
        if not hasattr(sampler, "set_epoch"):
            raise InvalidArgument(f"a sampler that is a {type(sampler).__name__} has no set_epoch")
        sampler.set_epoch(epoch)
        self._epoch = epoch


def as_tensor(value: Any) -> Any:
    """An array as a tensor of the same memory; anything else, and dtypes that torch lacks, as it is."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc" and value.dtype.isnative:
        return torch.from_numpy(np.asarray(value))
    return value
