"""Compressed shards: read as a stream in bounded memory, damage is told, what stays is compressed again."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from thinwire.errors import CorruptRecord, InvalidArgument
from thinwire.store import records
from thinwire.store.compressed import reading, writing
from thinwire.store.records import dedup_records

_WINDOW = 8 << 20
_RLE_BLOCK = 128 << 10
_HOSTILE_BYTES = 1 << 30

Pack = Callable[[bytes], bytes]


def pack_zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def unpack_zstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


PACKS: dict[str, Pack] = {"": bytes, ".gz": gzip.compress, ".zst": pack_zstd}
UNPACKS: dict[str, Pack] = {"": bytes, ".gz": gzip.decompress, ".zst": unpack_zstd}
COMPRESSED = pytest.mark.parametrize("suffix", [".gz", ".zst"])


def suffix_of(name: str) -> str:
    return Path(name).suffix.replace(".jsonl", "")


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_all(path: Path, piece: int = 1000) -> bytes:
    told: list[int] = []
    found = bytearray()
    memory = memoryview(bytearray(piece))
    with reading(path, path.stat().st_size, _WINDOW, told.append) as source:
        while got := source.readinto(memory):
            found += memory[:got]
    assert sum(told) == path.stat().st_size
    return bytes(found)


def repeating(first: int, blocks: int, byte: bytes) -> bytes:
    """A zstd frame of blocks of 128 KiB, each four bytes long: `first` is its window's descriptor."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([first])
    block = (1 << 1 | _RLE_BLOCK << 3).to_bytes(3, "little") + byte
    last = (1 | 1 << 1 | _RLE_BLOCK << 3).to_bytes(3, "little") + byte
    return header + block * (blocks - 1) + last


@pytest.mark.parametrize("suffix", PACKS)
@pytest.mark.parametrize("piece", [1, 15, 16, 17, 4096])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, piece: int) -> None:
    content = random.Random(1).randbytes(3000) + bytes(3000)
    for number, each in enumerate((content, b"", b"x")):
        path = tmp_path / f"{number}{suffix}"
        with writing(path) as file:
            file.write(memoryview(each))
        assert UNPACKS[suffix](path.read_bytes()) == each
        assert read_all(path, piece) == each


@COMPRESSED
def test_parts_that_follow_each_other_are_one_file(tmp_path: Path, suffix: str) -> None:
    pack = PACKS[suffix]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(pack(b"one\n") + pack(b"") + pack(b"two\n" * 1000))
    assert read_all(path) == b"one\n" + b"two\n" * 1000
    path.write_bytes(b"")
    assert read_all(path) == b""


@COMPRESSED
def test_a_file_that_is_cut_off_is_told_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    whole = PACKS[suffix](b"some text " * 20 + random.Random(2).randbytes(60))
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(CorruptRecord, match=rf"x\{suffix} cannot be unpacked") as caught:
            read_all(path)
        assert caught.value.file == str(path)


@COMPRESSED
def test_no_flipped_bit_changes_what_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    content = b"some text " * 20 + random.Random(2).randbytes(60)
    whole = PACKS[suffix](content)
    told = 0
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert read_all(path) == content
        except CorruptRecord:
            told += 1
    assert told > 7 * len(whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_shards_of_all_kinds_are_one_set_of_records(tmp_path: Path, threads: int) -> None:
    chance = random.Random(3)
    contents = {
        f"{number}.jsonl{suffix}": b"".join(b"%d\n" % chance.randrange(3000) for _ in range(2000))
        for number, suffix in enumerate([".gz", "", ".zst", ".zst", ".gz"])
    }
    (tmp_path / "in").mkdir()
    for name, content in contents.items():
        (tmp_path / "in" / name).write_bytes(PACKS[suffix_of(name)](content))
    done: list[tuple[int, int | None]] = []
    report = dedup_records(
        [tmp_path / "in"], tmp_path / "out", threads=threads, progress=lambda *now: done.append(now)
    )
    seen: set[bytes] = set()
    for name, content in contents.items():
        kept = []
        for line in content.splitlines(keepends=True):
            if line not in seen:
                seen.add(line)
                kept.append(line)
        path = tmp_path / "out" / "in" / name
        assert UNPACKS[suffix_of(name)](path.read_bytes()) == b"".join(kept)
    size_in, size_out = (bytes_below(tmp_path / folder) for folder in ("in", "out"))
    assert (report.bytes_in, report.bytes_out) == (size_in, size_out)
    assert (report.records, report.duplicates) == (10_000, 10_000 - len(seen))
    assert done[-1] == (2 * size_in, 2 * size_in)


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    for name, pack in (("x.gz", gzip.compress), ("y.zst", pack_zstd)):
        (tmp_path / name).write_bytes(pack(b"a\nb\na\n" * 1000))
    inputs = [tmp_path / "x.gz", tmp_path / "y.zst"]
    for out in ("one", "two"):
        dedup_records(inputs, tmp_path / out)
    for path in inputs:
        one, two = ((tmp_path / out / path.name).read_bytes() for out in ("one", "two"))
        assert one == two


def test_whole_files_are_compared_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a", mtime=1))
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"a", mtime=2))
    (tmp_path / "z.gz").write_bytes(b"no gzip")
    report = dedup_records(sorted(tmp_path.glob("*.gz")), tmp_path / "out", kind="files")
    assert report.duplicates == 0
    assert (tmp_path / "out" / "z.gz").read_bytes() == b"no gzip"


@COMPRESSED
def test_errors_name_file_and_line_and_leave_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(PACKS[suffix](b'{"a": 1}\n{no\n'))
    with pytest.raises(InvalidArgument, match=re.escape(f"{path}, line 2") + " is not JSON"):
        dedup_records([path], tmp_path / "out", kind="jsonl")
    path.write_bytes(b"this is plain text\n")
    with pytest.raises(CorruptRecord, match="cannot be unpacked"):
        dedup_records([path], tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("byte", [b"a", b"\n"])
def test_a_file_that_expands_without_end_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte: bytes
) -> None:
    """Of one endless line it says so; of endless lines it reads on, which is told to stop here."""
    path = tmp_path / "x.zst"
    path.write_bytes(repeating(0x58, _HOSTILE_BYTES // _RLE_BLOCK, byte))
    assert path.stat().st_size < 40_000
    monkeypatch.setattr(records, "LEAST_MEMORY", 0)

    class Enough(Exception):
        pass

    def stop(lines: records.Lines) -> None:
        nonlocal read
        read += len(lines.data)
        if read > 4 << 20:
            raise Enough

    read = 0
    monkeypatch.setattr(records, "_as_they_are", lambda shard, line, lines: stop(lines) or lines)
    tracemalloc.start()
    try:
        with pytest.raises((InvalidArgument, Enough)) as caught:
            dedup_records([path], tmp_path / "out", memory="64MiB")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert "has a line of over" in str(caught.value) if byte == b"a" else caught.type is Enough
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_window_that_memory_cannot_hold_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(repeating(17 << 3, 1, b"\n"))  # 128 MiB
    with pytest.raises(CorruptRecord, match=r"requires too much memory.*give more memory"):
        dedup_records([path], tmp_path / "out", memory="64MiB")
    assert dedup_records([path], tmp_path / "out").records == _RLE_BLOCK


def test_a_disk_that_fills_with_marks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"a\na\n")

    def full(descriptor: int, offset: int, size: int) -> None:
        # With O_APPEND glibc would not fall back to writing.
        assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no space is left"):
        dedup_records([tmp_path / "x"], tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_many_duplicates_at_the_end_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LEAST_MARKS", 1)
    lines = [json.dumps(i % 1000).encode() for i in range(3000)]
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    assert dedup_records([tmp_path / "x"], tmp_path / "out").duplicates == 2000
    assert (tmp_path / "out" / "x").read_bytes() == b"\n".join(lines[:1000]) + b"\n"
