"""The native reader of records of one size, asked for by their numbers over all files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from thinwire import _core
from thinwire.errors import InvalidArgument

RECORD, HEAD, COUNTS = 24, 10, (5, 0, 1, 90)
ENDS = np.cumsum(COUNTS)
BASES = HEAD - (ENDS - COUNTS) * RECORD
TOTAL = int(ENDS[-1])


@pytest.fixture
def records() -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (TOTAL, RECORD), dtype=np.uint8)


@pytest.fixture
def paths(tmp_path: Path, records: NDArray[np.uint8]) -> list[str]:
    for number, (end, count) in enumerate(zip(ENDS, COUNTS, strict=True)):
        (tmp_path / f"{number}").write_bytes(bytes(HEAD) + records[end - count : end].tobytes())
    return [str(tmp_path / f"{number}") for number in range(len(COUNTS))]


@pytest.fixture
def reader(paths: list[str]) -> _core.FileReader:
    return _core.FileReader(paths)


def submit(
    reader: _core.FileReader, numbers: list[int], slots: list[NDArray[np.uint8]], faults: NDArray[np.int32]
) -> _core.Reads:
    filled = [(each.ctypes.data, len(each)) for each in slots]
    return reader.submit_fixed(np.array(numbers, np.int64), ENDS, BASES, RECORD, filled, faults, slots)


def test_records_of_several_files_fill_the_slots_in_turn(
    reader: _core.FileReader, records: NDArray[np.uint8]
) -> None:
    numbers = np.random.default_rng(3).integers(0, TOTAL, 70).tolist()
    for _ in range(5):  # the first from the files, later ones from what is mapped of them
        slots = [np.zeros((size, RECORD), np.uint8) for size in (30, 0, 1, 39)]
        faults = np.full(70, 77, np.int32)
        assert submit(reader, numbers, slots, faults).wait(30)
        assert not faults.any()
        assert np.array_equal(np.concatenate(slots), records[numbers])


@pytest.mark.parametrize("number", [-1, -(2**62), TOTAL, 2**62])
def test_a_number_that_no_file_has_is_refused(reader: _core.FileReader, number: int) -> None:
    slot = np.zeros((2, RECORD), np.uint8)
    with pytest.raises(InvalidArgument, match="record 1"):
        submit(reader, [0, number], [slot], np.zeros(2, np.int32))


def test_arrays_that_do_not_fit_are_refused(reader: _core.FileReader) -> None:
    slot = np.zeros((2, RECORD), np.uint8)
    with pytest.raises(InvalidArgument, match="3 records are asked for, and slots hold 2"):
        submit(reader, [0, 1, 2], [slot], np.zeros(3, np.int32))
    with pytest.raises(InvalidArgument, match="as many values"):
        submit(reader, [0, 1], [slot], np.zeros(1, np.int32))
    with pytest.raises(InvalidArgument, match="as many values"):
        reader.submit_fixed(np.zeros(1, np.int64), ENDS, BASES[1:], RECORD, [], np.zeros(1, np.int32), [])
    with pytest.raises(TypeError):
        submit(reader, [0, 1], [slot], np.zeros(2, np.int64))  # type: ignore[arg-type]


def test_everything_is_read_though_nobody_waits(paths: list[str], records: NDArray[np.uint8]) -> None:
    reader = _core.FileReader(paths, direct="always")  # nothing is copied from a mapping at once
    numbers = list(range(TOTAL))
    asked = [(np.zeros((TOTAL, RECORD), np.uint8), np.full(TOTAL, 77, np.int32)) for _ in range(200)]
    under_way = [submit(reader, numbers, [slot], faults) for slot, faults in asked]
    deadline = time.monotonic() + 30
    while any(faults.any() for _, faults in asked) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not any(faults.any() for _, faults in asked)
    assert all(reads.wait(30) for reads in under_way)
    assert all(np.array_equal(slot, records) for slot, _ in asked)
