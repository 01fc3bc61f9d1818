"""Exact duplicates of records: as a plain reference finds them, for any memory and threads."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinwire.errors import InvalidArgument, NotFound
from thinwire.store import fingerprints, records, shards
from thinwire.store.fingerprints import Comparer
from thinwire.store.records import DedupReport, dedup_records


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> int:
    """So little that blocks, partitions and levels of partitions are many."""
    monkeypatch.setattr(records, "LEAST_MEMORY", 0)
    return 64 << 10


def reference(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files without the lines that were there before; the last line's newline is no part of it."""
    seen: set[bytes] = set()
    out = {}
    for name, content in files.items():
        kept = []
        for line in re.findall(rb"[^\n]*\n|[^\n]+$", content):
            if line.rstrip(b"\n") not in seen:
                seen.add(line.rstrip(b"\n"))
                kept.append(line)
        out[name] = b"".join(kept)
    return out


def write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def many_lines(seed: int, count: int, distinct: int) -> bytes:
    rng = random.Random(seed)
    return b"".join(b"%d %s\n" % (rng.randrange(distinct), b"x" * rng.randrange(40)) for _ in range(count))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([b"", b"a", b"b", b"a\r", b"\0", b"long " * 9]), max_size=30).map(
            b"\n".join
        ),
        min_size=1,
        max_size=4,
    )
)
def test_lines_equal_a_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    files = {f"{number}.txt": content for number, content in enumerate(contents)}
    report = dedup_records(write(folder / "in", files), folder / "out")
    expected = reference(files)
    assert read(folder / "out") == expected
    assert report.bytes_in == sum(map(len, files.values()))
    assert report.bytes_out == sum(map(len, expected.values()))


def test_the_answer_depends_on_neither_threads_nor_memory(tmp_path: Path, little_memory: int) -> None:
    files = {f"{seed}.jsonl": many_lines(seed, 1000, 600) for seed in range(5)}
    paths = write(tmp_path / "in", files)
    reports = [
        dedup_records(paths, tmp_path / f"{threads} {memory}", threads=threads, memory=memory)
        for threads in (1, 3)
        for memory in (little_memory, "256KiB", "1GiB")
    ]
    outs = [read(path) for path in tmp_path.iterdir() if path.name != "in"]
    assert len(outs) == 6
    assert all(out == reference(files) for out in outs)
    assert len(set(reports)) == 1
    assert reports[0] == DedupReport(
        files=5,
        records=5000,
        duplicates=5000 - sum(content.count(b"\n") for content in outs[0].values()),
        bytes_in=sum(map(len, files.values())),
        bytes_out=sum(map(len, outs[0].values())),
    )


def naive(keys: list[int]) -> list[int]:
    seen: set[int] = set()
    return [i for i, key in enumerate(keys) if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def batches_of(keys: list[int], size: int) -> Iterator[fingerprints.Rows]:
    """Fingerprints that differ in few bytes, so that many levels of partitions are needed."""
    made = np.zeros((len(keys), 16), np.uint8)
    made[:, 2] = np.array(keys, np.uint8) % 3
    made[:, 14] = keys
    for at in range(0, len(keys), size):
        yield fingerprints.rows_of(made[at : at + size], at)


def found_again(batches: Iterator[fingerprints.Rows], folder: Path, rows: int) -> list[int]:
    """The numbers that a comparer drops whose memory is for so many rows."""
    dropped: list[int] = []
    memory = rows * fingerprints.WORKING_BYTES
    Comparer(folder, memory, lambda numbers: dropped.extend(numbers.tolist())).compare(batches)
    return sorted(dropped)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=60), st.integers(1, 7), st.integers(0, 9))
def test_partitions_find_what_a_set_finds(
    tmp_path_factory: pytest.TempPathFactory, keys: list[int], size: int, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("spill")
    dropped: list[int] = []
    comparer = Comparer(
        folder, rows * fingerprints.WORKING_BYTES, lambda numbers: dropped.extend(numbers.tolist())
    )
    comparer.compare(batches_of(keys, size))
    assert sorted(dropped) == naive(keys)
    assert not list(folder.iterdir())


def test_one_record_many_times_needs_no_more_memory(tmp_path: Path) -> None:
    dropped: list[int] = []
    comparer = Comparer(
        tmp_path, 64 * fingerprints.WORKING_BYTES, lambda numbers: dropped.extend(numbers.tolist())
    )
    comparer.compare(batches_of([7] * 50_000, 500))
    assert sorted(dropped) == list(range(1, 50_000))


def test_rows_that_share_half_their_fingerprint_are_told_apart() -> None:
    made = np.zeros((3, 16), np.uint8)
    made[1, 15] = 1
    assert fingerprints.repeated(fingerprints.rows_of(made, 0)).tolist() == [False, False, True]


def test_jsonl_compares_values(tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": 2}', '{"b":2,"a":1}', "", '{"a": 1, "b": "2"}', "", '{"a":1.0,"b":2}']
    paths = write(tmp_path / "in", {"x.jsonl": "\n".join(lines).encode()})
    dedup_records(paths, tmp_path / "out", kind="jsonl")
    assert (tmp_path / "out" / "x.jsonl").read_text().split("\n") == [lines[i] for i in (0, 2, 3, 5)]


def test_jsonl_compares_the_fields_alone(tmp_path: Path, little_memory: int) -> None:
    made = [{"text": f"t{i % 50}", "id": i} for i in range(400)]
    content = "".join(json.dumps(each) + "\n" for each in made).encode()
    paths = write(tmp_path / "in", {"x.jsonl": content})
    report = dedup_records(paths, tmp_path / "out", kind="jsonl", fields=["text"], memory=little_memory)
    assert report.duplicates == 350
    kept = (tmp_path / "out" / "x.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == list(range(50))


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ("{no", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"other": 1}', "no field 'text'"),
        ("[1]", "no field 'text'"),
    ],
)
def test_jsonl_errors_name_file_and_line(tmp_path: Path, second: str, what: str) -> None:
    paths = write(tmp_path / "in", {"x.jsonl": f'{{"text": "t"}}\n{second}\n'.encode()})
    with pytest.raises(InvalidArgument, match=re.escape(f"{paths[0]}, line 2") + f".*{what}"):
        dedup_records(paths, tmp_path / "out", kind="jsonl", fields=["text"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_files_of_a_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "b").mkdir(parents=True)
    large = random.Random(1).randbytes(5 << 20)
    contents = {
        "a": b"one",
        "b/same": b"one",
        "b/other": b"two",
        "c": large,
        "d": large[:-1] + b"x",
        "e": large,
        "f": b"",
        "g": b"",
    }
    for name, content in contents.items():
        (tree / name).write_bytes(content)
    (tree / "a").chmod(0o640)
    report = dedup_records([tree], tmp_path / "out", kind="files", threads=2)
    assert read(tmp_path / "out" / "tree") == {
        name: contents[name] for name in ("a", "b/other", "c", "d", "f")
    }
    assert (tmp_path / "out" / "tree" / "a").stat().st_mode & 0o777 == 0o640
    assert (report.files, report.records, report.duplicates) == (8, 8, 3)


def test_a_folder_keeps_its_name_and_order(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"same\n" + name.encode() + b"\n")
    dedup_records([tmp_path / "right", tmp_path / "left"], tmp_path / "out")
    assert read(tmp_path / "out") == {"right/part": b"same\nright\n", "left/part": b"left\n"}


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", {"x": b"a\na\n"})
    for out in (tmp_path / "in", tmp_path / "in" / "below"):
        with pytest.raises(InvalidArgument):
            dedup_records([tmp_path / "in"], out)
    with pytest.raises(InvalidArgument, match="exists"):
        dedup_records(paths, tmp_path / "in")
    assert read(tmp_path / "in") == {"x": b"a\na\n"}
    (tmp_path / "empty").mkdir()
    dedup_records(paths, tmp_path / "empty")
    assert read(tmp_path / "empty") == {"x": b"a\n"}


def test_bad_input(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", {"x": b"a\n"})
    with pytest.raises(NotFound, match="nothere"):
        dedup_records([tmp_path / "nothere"], tmp_path / "out")
    with pytest.raises(InvalidArgument, match="2 inputs would be written as x"):
        dedup_records([paths[0], paths[0]], tmp_path / "out")
    with pytest.raises(InvalidArgument, match="kind is 'words'"):
        dedup_records(paths, tmp_path / "out", kind="words")
    with pytest.raises(InvalidArgument, match="fields belong"):
        dedup_records(paths, tmp_path / "out", fields=["text"])
    with pytest.raises(InvalidArgument, match="memory is 1 MiB"):
        dedup_records(paths, tmp_path / "out", memory="1MiB")
    with pytest.raises(InvalidArgument, match="memory is 'much'"):
        dedup_records(paths, tmp_path / "out", memory="much")
    assert not (tmp_path / "out").exists()


def test_a_line_that_memory_cannot_hold_is_an_error(tmp_path: Path, little_memory: int) -> None:
    paths = write(tmp_path / "in", {"x": b"a" * 100_000})
    with pytest.raises(InvalidArgument, match="has a line of over"):
        dedup_records(paths, tmp_path / "out", memory=little_memory)


@pytest.mark.parametrize("kind", ["lines", "files"])
def test_input_that_changes_meanwhile_is_an_error(tmp_path: Path, kind: str) -> None:
    paths = write(tmp_path / "in", {"x": b"a\nb\n", "y": b"a\nb\n"})

    def grow(done: int, total: int | None) -> None:
        with paths[0].open("ab") as file:
            file.write(b"c\n")

    with pytest.raises(InvalidArgument, match="changed while it was read"):
        dedup_records(paths, tmp_path / "out", kind=kind, progress=grow)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(("before", "after"), [(b"a", b"\n"), (b"\n", b"a")], ids=["more", "fewer"])
def test_a_file_that_has_other_lines_in_the_second_pass_is_an_error(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    paths = write(tmp_path / "in", {"x": before * 100_000, "y": b"b\n"})
    stamp = paths[0].stat()

    def rewrite(done: int, total: int | None) -> None:
        paths[0].write_bytes(after * 100_000)
        os.utime(paths[0], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    with pytest.raises(InvalidArgument, match="changed while it was read"):
        dedup_records(paths, tmp_path / "out", progress=rewrite)


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    paths = write(tmp_path / "in", {"x": many_lines(1, 100, 50), "y": b"no newline"})
    seen: list[tuple[int, int | None]] = []
    dedup_records(paths, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 2 * sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path / "in", {"x": b"a\n"})

    def full(lines: shards.Lines, dropped: object) -> memoryview:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(shards.Lines, "without", full)
    with pytest.raises(OSError, match="no space is left") as caught:
        dedup_records(paths, tmp_path / "out")
    assert caught.value.errno == 28
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
