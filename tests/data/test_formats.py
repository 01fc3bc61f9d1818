"""What each format says of where records lie, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.data import RaggedBatch, RecordReader, write_shards
from thinwire.errors import CorruptRecord, InvalidArgument, NotFound

ROWS = np.arange(60, dtype=np.int32).reshape(5, 4, 3)


def everything(reader: RecordReader) -> Any:
    return reader.read(range(len(reader)))


def test_raw_records(tmp_path: Path) -> None:
    ROWS.tofile(tmp_path / "rows")
    reader = RecordReader(tmp_path / "rows", dtype="int32", shape=(4, 3))
    assert (len(reader), reader.dtype, reader.shape, reader.nbytes) == (5, np.int32, (4, 3), 240)
    np.testing.assert_array_equal(everything(reader), ROWS)
    assert RecordReader(tmp_path / "rows", dtype="u1", shape=48).shape == (48,)
    assert RecordReader(tmp_path / "rows", dtype="<i8").read([1]).tolist() == [2 + (3 << 32)]


def test_structured_records(tmp_path: Path) -> None:
    dtype = np.dtype([("x", ">f4", (2,)), ("label", "u1")])
    records = np.zeros(7, dtype)
    records["label"] = range(7)
    records.tofile(tmp_path / "records")
    np.testing.assert_array_equal(everything(RecordReader(tmp_path / "records", dtype=dtype)), records)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_rows_of_npy_files(tmp_path: Path, version: tuple[int, int]) -> None:
    for name, rows in (("a", ROWS), ("b", ROWS[:0]), ("c", ROWS + 100)):
        with (tmp_path / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array(file, rows, version)
    reader = RecordReader(tmp_path)
    assert reader.format == "npy"
    np.testing.assert_array_equal(everything(reader), np.concatenate([ROWS, ROWS + 100]))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.asfortranarray(np.zeros((3, 4))), "Fortran"),
        (np.zeros(()), r"shape \(\)"),
    ],
)
def test_npy_files_without_rows(tmp_path: Path, array: Any, reason: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InvalidArgument, match=reason):
        RecordReader(tmp_path / "x.npy")


def test_npy_files_of_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(InvalidArgument, match="object"):
        RecordReader(tmp_path / "x.npy")


@pytest.mark.parametrize("change", [-1, 1, -60, -239, -300])
def test_npy_files_of_another_length(tmp_path: Path, change: int) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ROWS)
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(CorruptRecord, match=r"x\.npy"):
        RecordReader(path)


def test_lines_are_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\r\nthree")
    batch = everything(RecordReader(tmp_path / "a.txt"))
    assert isinstance(batch, RaggedBatch)
    assert [bytes(line) for line in batch] == [b"one", b"", b"two\r", b"three"]
    assert batch.lengths.tolist() == [3, 0, 4, 5]


def test_lines_of_json_are_parsed_and_blank_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[2]\r\nnull\n')
    assert everything(RecordReader(tmp_path / "a.jsonl")) == [{"a": 1}, [2], None]
    assert len(RecordReader(tmp_path / "a.jsonl", format="lines")) == 4


def test_blank_lines_of_another_system_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\r\n{}\r\n\r\n2\n[]\n\r\n\r")
    assert everything(RecordReader(tmp_path / "a.jsonl")) == [{}, 2, []]
    assert len(RecordReader(tmp_path / "a.jsonl", format="lines")) == 7


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    reader = RecordReader(tmp_path / "a.txt")
    assert len(reader) == 0
    assert list(reader) == list(reader.batches(batch_size=4)) == []
    assert len(reader.read([])) == 0


def test_a_raw_file_that_ends_inside_a_record(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(35))
    (tmp_path / "b").write_bytes(b"\1" * 16)
    with pytest.raises(CorruptRecord, match=r"a, record 4 at byte 32: .*after 3 of its 8 bytes") as caught:
        RecordReader([tmp_path / "a", tmp_path / "b"], dtype="u8")
    error = caught.value
    assert (error.file, error.offset, error.record) == (str(tmp_path / "a"), 32, 4)
    reader = RecordReader([tmp_path / "a", tmp_path / "b"], dtype="u8", faults="skip")
    assert everything(reader).tolist() == [0] * 4 + [0x0101010101010101] * 2
    assert reader.report().skipped == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "does not tell"),
        ({"format": "csv"}, "'csv'"),
        ({"format": "raw"}, "need a dtype"),
        ({"format": "lines", "dtype": "u1"}, "belong to raw"),
        ({"shape": 3}, "needs a dtype"),
        ({"dtype": "no"}, "'no'"),
        ({"dtype": object}, "object"),
        ({"dtype": "u1", "shape": (-1,)}, r"-1"),
        ({"dtype": "u1", "shape": 0}, r"\(0,\)"),
        ({"dtype": "u1", "max_record_bytes": "0"}, "max_record_bytes"),
        ({"dtype": "u1", "faults": "ignore"}, "'ignore'"),
        ({"dtype": "u1", "threads": -1, "transform": int}, "threads"),
        ({"dtype": "u1", "io": {"deep": 3}}, "'deep'"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    (tmp_path / "x.bin").write_bytes(b"abc")
    with pytest.raises(InvalidArgument, match=reason):
        RecordReader(tmp_path / "x.bin", **arguments)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        RecordReader(tmp_path / "missing", dtype="u1")
    with pytest.raises(NotFound, match="no files"):
        RecordReader(tmp_path, dtype="u1")
    with pytest.raises(InvalidArgument, match="no files"):
        RecordReader([], dtype="u1")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidArgument, match="regular"):
        RecordReader(tmp_path / "pipe", dtype="u1")
    with pytest.raises(InvalidArgument, match="cache="):
        RecordReader("s3://bucket/x", dtype="u1")


def test_files_of_unlike_records_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "b.npy", ROWS[0])
    with pytest.raises(InvalidArgument, match=r"b\.npy.*int32 of shape \(3,\).*a\.npy"):
        RecordReader(tmp_path)
    shards = [*write_shards([b"xy"], tmp_path / "c"), *write_shards(ROWS, tmp_path / "d")]
    with pytest.raises(InvalidArgument, match="any length"):
        RecordReader(shards)


def test_a_folder_stands_for_its_files_in_order(tmp_path: Path) -> None:
    for name in ("2", "10", "1", ".hidden"):
        (tmp_path / name).write_bytes(name[:1].encode())
    (tmp_path / "folder").mkdir()
    assert bytes(everything(RecordReader(tmp_path, dtype="u1"))) == b"112"
    assert bytes(everything(RecordReader(f"{tmp_path}/?0*", dtype="u1"))) == b"1"
    with pytest.raises(NotFound, match="no file fits"):
        RecordReader(f"{tmp_path}/3*", dtype="u1")
    (tmp_path / "[x]").write_bytes(b"x")
    assert bytes(everything(RecordReader(f"{tmp_path}/[x]", dtype="u1"))) == b"x"
