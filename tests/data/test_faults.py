"""Records that cannot be read: named exactly, raised or skipped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.data import RecordReader, write_shards
from thinwire.errors import CorruptRecord, InvalidArgument

RECORDS = [bytes([i]) * (i + 1) for i in range(10)]
OFFSETS = [64 + i * (i + 1) // 2 for i in range(11)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    (path,) = write_shards(RECORDS, tmp_path / "shards")
    return path


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def assert_only_missing(reader: RecordReader, missing: list[int]) -> None:
    """Of batches over all records exactly these are skipped, in every place of a batch, and named."""
    wanted = [RECORDS[i] for i in range(10) if i not in missing]
    for batch_size in (1, 3, 10):
        before = reader.report().skipped
        batches = list(reader.batches(batch_size=batch_size))
        assert len(batches) == -(-10 // batch_size)
        assert [bytes(record) for batch in batches for record in batch] == wanted
        report = reader.report()
        assert report.skipped - before == len(missing)
        for i in missing:
            assert any(f"record {i} at byte {OFFSETS[i]}" in fault for fault in report.faults), report.faults


def test_a_wrong_checksum(shard: Path) -> None:
    for i in (2, 9):
        damage(shard, OFFSETS[i])
    reader, skipping = RecordReader(shard), RecordReader(shard, faults="skip")
    got = RecordReader(shard, verify=False).read([2])
    assert bytes(got[0]) == b"\3\2\2"
    with pytest.raises(CorruptRecord, match="record 9 at byte 109: its checksum is wrong") as caught:
        reader.read([1, 9, 2])
    assert (caught.value.file, caught.value.offset, caught.value.record) == (str(shard), 109, 9)
    np.testing.assert_array_equal(reader.read([1]).data, [1, 1])
    assert_only_missing(skipping, [2, 9])
    (batch,) = skipping.named_batches([[9, 3, 2, 4]])
    assert batch.indices.tolist() == [3, 4]
    with pytest.raises(InvalidArgument, match="record 2 is left out"):
        skipping[2]


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    rows = np.arange(100, dtype=np.int32).reshape(25, 4)
    rows.tofile(path)
    reader = RecordReader(path, dtype="i4", shape=4)
    skipping = RecordReader(path, dtype="i4", shape=4, faults="skip")
    os.truncate(path, 200)
    with pytest.raises(CorruptRecord, match="record 12 at byte 192: the file ends inside it") as caught:
        reader.read([3, 12])
    assert caught.value.record == 12
    np.testing.assert_array_equal(skipping.read([20, 3, 24, 11]), rows[[3, 11]])
    with pytest.raises(InvalidArgument, match="had 400 bytes then, and has 200 now"):
        reader.batches(batch_size=1)


def test_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo")
    reader = RecordReader(path)
    batches = reader.batches(batch_size=1, prefetch=0)
    assert bytes(next(batches)[0]) == b"one"
    with path.open("a") as file:
        file.write("more\nthree\n")
    assert bytes(next(batches)[0]) == b"two"
    with pytest.raises(InvalidArgument, match=r"a\.txt was changed since"):
        reader.batches(batch_size=1)


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 4)
    reader = RecordReader(tmp_path, dtype="u2")
    skipping = RecordReader(tmp_path, dtype="u2", faults="skip")
    (tmp_path / "b").unlink()
    with pytest.raises(FileNotFoundError, match=r"record 1 at byte 2.*/b'"):
        reader.read([0, 3])
    assert len(skipping.read([2, 0, 1, 3])) == 2
    with pytest.raises(FileNotFoundError, match="b"):
        reader.batches(batch_size=1)


def test_a_file_that_becomes_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abcd")
    reader = RecordReader(path, dtype="u1")
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"record 2 at byte 2.*/a'"):
        reader.read([2])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abcd")
    path.chmod(0)
    with pytest.raises(PermissionError, match="record 2"):
        RecordReader(path, dtype="u1").read([2])


def test_a_record_that_is_too_large(shard: Path) -> None:
    with pytest.raises(CorruptRecord, match="record 8 at byte 100: it is larger than max_record_bytes"):
        RecordReader(shard, max_record_bytes=8).read([0, 8])
    assert_only_missing(RecordReader(shard, max_record_bytes=8, faults="skip"), [8, 9])


@pytest.mark.parametrize("threads", [0, 2])
def test_a_transform_that_fails(shard: Path, threads: int) -> None:
    def transform(record: memoryview) -> bytes:
        if record[0] in (0, 5):
            raise ValueError("not today")
        return bytes(record)

    reader = RecordReader(shard, transform=transform, threads=threads)
    batches = reader.batches([[1, 2], [5], [3]])
    assert next(batches) == [b"\1\1", b"\2\2\2"]
    with pytest.raises(CorruptRecord, match="record 5 at byte 79: ValueError: not today") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, ValueError)
    assert_only_missing(RecordReader(shard, transform=transform, threads=threads, faults="skip"), [0, 5])


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n\xff\n[]\n')
    with pytest.raises(CorruptRecord, match=r"a\.jsonl, record 1 at byte 10: JSONDecodeError"):
        RecordReader(path).read(range(4))
    reader = RecordReader(path, faults="skip")
    assert reader.read(range(4)) == [{"a": 1}, []]
    assert reader.report().skipped == 2
    assert "UnicodeDecodeError" in str(reader.report())


def test_faults_come_at_their_place(shard: Path) -> None:
    damage(shard, OFFSETS[4])
    batches = RecordReader(shard).batches(batch_size=2)
    assert [bytes(record) for record in next(batches)] == RECORDS[:2]
    assert [bytes(record) for record in next(batches)] == RECORDS[2:4]
    with pytest.raises(CorruptRecord):
        next(batches)


def test_a_batch_may_lose_all_its_records(shard: Path) -> None:
    def fail(record: Any) -> None:
        raise ValueError

    keep: Callable[[Any], bytes] = bytes
    for transform, damaged in ((None, True), (fail, False), (keep, True)):
        if damaged:
            damage(shard, OFFSETS[4])
        reader = RecordReader(shard, transform=transform, faults="skip")
        assert len(reader.read([4])) == 0
        if damaged:
            damage(shard, OFFSETS[4])


def test_a_long_list_of_faults_is_cut(shard: Path) -> None:
    reader = RecordReader(shard, max_record_bytes=0, faults="skip")
    for _ in range(150):
        reader.read(range(10))
    report = reader.report()
    assert (report.skipped, len(report.faults)) == (1500, 1000)
    assert "and 1490 more" in str(report)
