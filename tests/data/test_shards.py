"""The shard format: as its page says, and nothing else is believed."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from thinwire import _core
from thinwire._durable import CannotTakeName
from thinwire.data import RaggedBatch, RecordReader, ShardIndex, shard_writer, shards, write_shards
from thinwire.errors import CorruptRecord, FormatVersion, InvalidArgument

RECORDS = [b"one", b"", b"three"]


def test_the_bytes_of_a_shard(tmp_path: Path) -> None:
    (path,) = write_shards(RECORDS, tmp_path, metadata={"a": 1})
    data = path.read_bytes()
    header = struct.pack("<4sHH48x", b"TWSH", 1, 0)
    index = b"".join(
        struct.pack("<QQ", end, _core.xxh3_64(record))
        for end, record in zip([67, 67, 72], RECORDS, strict=True)
    )
    metadata = b'{"metadata": {"a": 1}}'
    sums = _core.xxh3_64(index), _core.xxh3_64(metadata)
    footer = struct.pack("<4sHHQQQQQ8x", b"TWSF", 1, 0, 3, 72, len(metadata), *sums)
    expected = [
        header,
        struct.pack("<Q", _core.xxh3_64(header)),
        b"onethree",
        index,
        metadata,
        footer,
        struct.pack("<Q", _core.xxh3_64(footer)),
    ]
    assert data == b"".join(expected)
    assert path.name == "data-00000.tws"


def test_bytes_come_back(tmp_path: Path) -> None:
    records = [os.urandom(size) for size in (0, 1, 5000, 64, 0, 3)]
    paths = write_shards(records, tmp_path, shard_bytes=1000)
    assert len(paths) == 2
    assert list(tmp_path.iterdir()) == paths or sorted(tmp_path.iterdir()) == paths
    reader = RecordReader(tmp_path)
    assert [bytes(record) for record in reader] == records
    batch = reader.read([5, 2, 2, 0])
    assert isinstance(batch, RaggedBatch)
    assert [bytes(record) for record in batch] == [records[i] for i in (5, 2, 2, 0)]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=">i2").reshape(6, 4),
        np.arange(5, dtype=np.float64),
        np.zeros(3, [("x", "<f4", (2,)), ("y", [("z", "u1")])]),
        np.zeros((4, 2), bool),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    write_shards(array, tmp_path)
    reader = RecordReader(tmp_path)
    assert (reader.dtype, reader.shape) == (array.dtype, array.shape[1:])
    np.testing.assert_array_equal(reader.read(range(len(array))), array)


def test_an_index_for_people(tmp_path: Path) -> None:
    (path,) = write_shards(["é", memoryview(b"xy")], tmp_path, name="text", metadata={"lang": "fr"})
    index = ShardIndex.open(path)
    assert len(index) == 2
    assert index.metadata == {"lang": "fr"}
    assert index.element is None
    assert (index.offsets.tolist(), index.sizes.tolist()) == ([64, 66], [2, 2])
    assert index.sums.tolist() == [_core.xxh3_64("é".encode()), _core.xxh3_64(b"xy")]


def test_no_records_are_one_empty_shard(tmp_path: Path) -> None:
    (path,) = write_shards([], tmp_path)
    assert len(ShardIndex.open(path)) == len(RecordReader(path)) == 0


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    def records() -> Iterator[bytes]:
        yield from (bytes(100) for _ in range(10))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_shards(records(), tmp_path, shard_bytes=300)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_meanwhile_leaves_the_others_free(tmp_path: Path) -> None:
    def records() -> Iterator[bytes]:
        yield from (bytes(100) for _ in range(10))
        (tmp_path / "data-00002.tws").write_bytes(b"another's")

    with pytest.raises(InvalidArgument, match=r"data-00002\.tws exists"):
        write_shards(records(), tmp_path, shard_bytes=300)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"another's"]


def test_the_first_shard_takes_its_name_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    real = shard_writer.take_name

    def recorded(temporary: Path, path: Path) -> None:
        named.append(path.name)
        real(temporary, path)

    monkeypatch.setattr(shard_writer, "take_name", recorded)
    paths = write_shards((bytes(100) for _ in range(10)), tmp_path, shard_bytes=300)
    assert named == [path.name for path in reversed(paths)]


def test_shards_are_written_where_nothing_but_a_plain_rename_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(temporary: Path, path: Path) -> None:
        raise CannotTakeName(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(shard_writer, "take_name", refuse)
    records = [bytes([number]) * 100 for number in range(10)]
    paths = write_shards(records, tmp_path, shard_bytes=300)
    assert [bytes(record) for record in RecordReader(tmp_path)] == records
    assert sorted(tmp_path.iterdir()) == paths
    (tmp_path / "other-00002.tws").write_bytes(b"another's")
    monkeypatch.setattr(Path, "glob", lambda *_: [])  # it came after the look
    with pytest.raises(InvalidArgument, match=r"other-00002\.tws exists"):
        write_shards(records, tmp_path, name="other", shard_bytes=300)
    monkeypatch.undo()
    assert sorted(tmp_path.glob("other*")) == [tmp_path / "other-00002.tws"]


def test_names_that_do_not_get_to_the_disk_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shard_writer, "sync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_shards([b"x"], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([np.zeros(2), np.zeros(3)], "record 1 is no array of float64"),
        ([np.zeros(2), b"x"], "record 1"),
        ([np.array([None])], "Python objects"),
        ([b"x", 7], "record 1"),
        ([b"x", memoryview(b"abcd")[::2]], "record 1"),
    ],
)
def test_records_that_do_not_fit(tmp_path: Path, records: list[Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        write_shards(records, tmp_path)
    assert not list(tmp_path.iterdir())


def test_metadata_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="JSON"):
        write_shards([b"x"], tmp_path, metadata={"x": object()})


def test_shards_are_not_overwritten(tmp_path: Path) -> None:
    write_shards([b"x"], tmp_path)
    with pytest.raises(InvalidArgument, match=r"data-00000\.tws exists"):
        write_shards([b"y"], tmp_path)
    write_shards([b"y"], tmp_path, name="other")
    assert [bytes(record) for record in RecordReader(tmp_path)] == [b"x", b"y"]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    (path,) = write_shards(np.arange(6, dtype=np.int16).reshape(3, 2), tmp_path, metadata={"k": "v"})
    return path


def test_every_changed_byte_is_noticed(shard: Path) -> None:
    whole = shard.read_bytes()
    for at in range(len(whole)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(CorruptRecord, match=r"data-00000\.tws") as caught:
            RecordReader(shard).read(range(3))
        if 64 <= at < 76:
            record = (at - 64) // 4
            assert (caught.value.offset, caught.value.record) == (64 + 4 * record, record)


def test_every_other_length_is_noticed(shard: Path) -> None:
    whole = shard.read_bytes()
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"x", whole + whole):
        shard.write_bytes(data)
        with pytest.raises(CorruptRecord, match=r"data-00000\.tws"):
            ShardIndex.open(shard)


@pytest.mark.parametrize("block", ["header", "footer"])
@pytest.mark.parametrize(("version", "flags"), [(2, 0), (1, 1), (0, 0)])
def test_later_formats_are_refused(shard: Path, block: str, version: int, flags: int) -> None:
    data = bytearray(shard.read_bytes())
    at = 0 if block == "header" else len(data) - 64
    struct.pack_into("<HH", data, at + 4, version, flags)
    struct.pack_into("<Q", data, at + 56, _core.xxh3_64(data[at : at + 56]))
    shard.write_bytes(data)
    with pytest.raises(FormatVersion, match=f"version {version} with flags {flags}"):
        RecordReader(shard)


def forge(path: Path, content: bytes, entries: list[tuple[int, int]], metadata: Any, **other: int) -> None:
    """A shard whose checksums are right and whose content is not."""
    index = np.array(entries, shards.ENTRY).tobytes()
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    fields = {
        "records": len(entries),
        "index_offset": 64 + len(content),
        "metadata_bytes": len(text),
        "index_sum": _core.xxh3_64(index),
        "metadata_sum": _core.xxh3_64(text),
    }
    footer = shards.pack_footer(shards.Footer(**(fields | other)))
    path.write_bytes(b"".join([shards.pack_header(), content, index, text, footer]))


ONE = [(68, _core.xxh3_64(b"abcd"))]
PLAIN: dict[str, Any] = {"metadata": {}}


@pytest.mark.parametrize(
    ("entries", "metadata", "other"),
    [
        ([(69, 0)], PLAIN, {}),
        ([(2**63, 0), (68, 0)], PLAIN, {}),
        ([(67, 0), (66, 0), (68, 0)], PLAIN, {}),
        ([(63, 0), (68, 0)], PLAIN, {}),
        ([], PLAIN, {}),
        (ONE, PLAIN, {"records": 2**60}),
        (ONE, PLAIN, {"records": 2**64 - 1}),
        (ONE, PLAIN, {"index_offset": 2**64 - 1}),
        (ONE, PLAIN, {"metadata_bytes": 2**63}),
        (ONE, b"[", {}),
        (ONE, [], {}),
        (ONE, {}, {}),
        (ONE, {"metadata": {}, "dtype": "<f4"}, {}),
        (ONE, {"metadata": {}, "dtype": "<f8", "shape": []}, {}),
        (ONE, {"metadata": {}, "dtype": "O", "shape": []}, {}),
        (ONE, {"metadata": {}, "dtype": "<f4", "shape": [-1, -1]}, {}),
        (ONE, {"metadata": {}, "dtype": {"a": 1}, "shape": []}, {}),
        (ONE, {"metadata": {}, "dtype": "<f4", "shape": 7}, {}),
    ],
)
def test_forged_shards_are_refused(
    tmp_path: Path, entries: list[tuple[int, int]], metadata: Any, other: dict[str, int]
) -> None:
    path = tmp_path / "x.tws"
    forge(path, b"abcd", ONE, PLAIN)
    assert bytes(RecordReader(path)[0]) == b"abcd"
    forge(path, b"abcd", entries, metadata, **other)
    with pytest.raises(CorruptRecord, match=r"x\.tws"):
        RecordReader(path)


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tws").write_bytes(os.urandom(1000))
    with pytest.raises(CorruptRecord, match="no shard"):
        RecordReader(tmp_path / "x.tws")
    with pytest.raises(FileNotFoundError):
        ShardIndex.open(tmp_path / "missing.tws")
    assert tw.data.ShardIndex is ShardIndex
