"""The faces of a reader that torch's DataLoader knows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.data import ElasticSampler, RecordReader, write_shards
from thinwire.errors import InvalidArgument

torch = pytest.importorskip("torch")

from torch.utils.data import BatchSampler, DataLoader, RandomSampler  # noqa: E402

from thinwire.data import BatchDataset, RecordDataset  # noqa: E402
from thinwire.data.torch_datasets import as_tensor  # noqa: E402

ROWS = np.arange(80, dtype=np.float32).reshape(20, 4)


@pytest.fixture
def reader(tmp_path: Path) -> RecordReader:
    np.save(tmp_path / "rows.npy", ROWS)
    return RecordReader(tmp_path / "rows.npy")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_map_style_dataset(reader: RecordReader, workers: int) -> None:
    loader = DataLoader(RecordDataset(reader), batch_size=6, num_workers=workers)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert torch.equal(torch.cat(batches), torch.from_numpy(ROWS))


def test_records_are_tensors(reader: RecordReader) -> None:
    dataset = RecordDataset(reader)
    assert len(dataset) == 20
    assert torch.equal(dataset[-1], torch.from_numpy(ROWS[-1]))
    assert isinstance(dataset[3], torch.Tensor)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_whole_batches_in_the_samplers_order(reader: RecordReader, workers: int) -> None:
    sampler = BatchSampler(RandomSampler(range(20), generator=torch.Generator().manual_seed(1)), 3, False)
    order = list(sampler)
    loader = DataLoader(BatchDataset(reader, order), batch_size=None, num_workers=workers)
    batches = list(loader)
    assert len(batches) == 7
    for indices, batch in zip(order, batches, strict=True):
        assert torch.equal(batch, torch.from_numpy(ROWS[indices]))


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_workers_hear_of_the_epoch(reader: RecordReader, workers: int, persistent: bool) -> None:
    def sampler() -> ElasticSampler:
        return ElasticSampler(20, batch_size=3, rank=0, world_size=1)

    dataset = BatchDataset(reader, sampler())
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=persistent)
    alone = sampler()
    for epoch in (0, 1, 3):
        dataset.set_epoch(epoch)
        alone.set_epoch(epoch)
        check_batches(loader, alone)
    if not persistent:  # which has copied the sampler before
        dataset.sampler.commit(len(dataset.sampler))
        alone.set_epoch(4)
        check_batches(loader, alone)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_workers_of_a_copy_hear_of_the_epoch(
    reader: RecordReader, copied: Callable[[BatchDataset], BatchDataset]
) -> None:
    alone = ElasticSampler(20, batch_size=3, rank=0, world_size=1)
    original = BatchDataset(reader, copy.deepcopy(alone))
    dataset = copied(original)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    check_batches(loader, alone)
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        original.set_epoch(epoch + 1)  # which is none of the copy's business
        alone.set_epoch(epoch)
        check_batches(loader, alone)


def check_batches(loader: DataLoader, sampler: ElasticSampler) -> None:
    for batch, wanted in zip(loader, sampler, strict=True):
        assert torch.equal(batch, torch.from_numpy(ROWS[wanted.indices]))


def test_a_worker_that_is_late_does_not_call_an_epoch_back(reader: RecordReader) -> None:
    class LateSampler(ElasticSampler):
        def set_epoch(self, epoch: int) -> None:
            super().set_epoch(epoch)
            if epoch == 1:
                dataset.set_epoch(2)  # as the process that trains could, between two steps of the worker

    dataset = BatchDataset(reader, ElasticSampler(20, batch_size=3, rank=0, world_size=1))
    worker = copy.copy(dataset)  # it shares with the original what a worker shares
    worker.sampler = LateSampler(20, batch_size=3, rank=0, world_size=1)
    dataset.set_epoch(1)
    list(worker)
    dataset.sampler.set_epoch(2)
    check_batches(worker, dataset.sampler)


def test_a_sampler_without_epochs(reader: RecordReader) -> None:
    with pytest.raises(InvalidArgument, match="list has no set_epoch"):
        BatchDataset(reader, [[1]]).set_epoch(1)


def test_all_in_order(reader: RecordReader) -> None:
    loader = DataLoader(BatchDataset(reader, batch_size=8, prefetch=1), batch_size=None)
    assert torch.equal(torch.cat(list(loader)), torch.from_numpy(ROWS))


def test_a_tensor_shares_the_memory() -> None:
    array = np.zeros((2, 3), np.int16)
    tensor = as_tensor(array)
    tensor[0, 0] = 7
    assert array[0, 0] == 7


@pytest.mark.parametrize("value", ["x", [1, 2], np.zeros(2, ">f4"), np.zeros(2, "S3"), np.zeros(2, "M8[s]")])
def test_other_things_stay_as_they_are(value: Any) -> None:
    assert as_tensor(value) is value


def test_records_of_any_length(tmp_path: Path) -> None:
    write_shards([b"one", b"three"], tmp_path)
    loader = DataLoader(
        RecordDataset(RecordReader(tmp_path)), batch_size=2, collate_fn=lambda records: records
    )
    assert [[bytes(record) for record in batch] for batch in loader] == [[b"one", b"three"]]


def test_torchs_own_collate(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2], "y": 3}\n{"x": [4, 5], "y": 6}\n')
    reader = RecordReader(tmp_path / "a.jsonl", collate=torch.utils.data.default_collate)
    batch = reader.read([0, 1])
    assert batch["y"].tolist() == [3, 6]
