"""Finding lines, and keeping what was found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.data import RecordReader, lines
from thinwire.data.layout import VariedLayout
from thinwire.errors import CorruptRecord


def read_all(path: Path, **options: Any) -> list[bytes]:
    reader = RecordReader(path, format="lines", **options)
    return [bytes(line) for line in reader.read(range(len(reader)))]


def split(text: bytes) -> list[bytes]:
    found = text.split(b"\n")
    return found if found[-1] else found[:-1]


@given(st.lists(st.sampled_from([b"\n", b"x", b"yy\r", b"\0"])).map(b"".join), st.integers(1, 5))
def test_lines_are_those_of_split(tmp_path_factory: pytest.TempPathFactory, text: bytes, block: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "text"
    path.write_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        assert read_all(path) == split(text)


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were looked through."""
    seen: list[Path] = []
    find = lines.find_line_ends

    def counted(path: Path, size: int, threads: int) -> lines.Ends:
        seen.append(path)
        return find(path, size, threads)

    monkeypatch.setattr(lines, "find_line_ends", counted)
    return seen


@pytest.mark.parametrize("place", ["beside", "folder"])
def test_what_was_found_is_kept(tmp_path: Path, scans: list[Path], place: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nbc\n")
    where = place if place == "beside" else str(tmp_path / "kept")
    for _ in range(2):
        assert read_all(path, line_index=where) == [b"a", b"bc"]
    assert len(scans) == 1
    path.write_bytes(b"a\nb\n\n")
    os.utime(path, ns=(1, 1))  # of the same size, at another time
    assert read_all(path, line_index=where) == [b"a", b"b", b""]
    assert len(scans) == 2


def test_what_was_found_while_a_text_grew_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nbc\n")
    find = lines.find_line_ends

    def appended(path: Path, size: int, threads: int) -> lines.Ends:
        found = find(path, size, threads)
        with path.open("ab") as file:
            file.write(b"d\ne\n")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(lines, "find_line_ends", appended)
        assert read_all(path, line_index="beside") == [b"a", b"bc"]
    assert read_all(path, line_index="beside") == [b"a", b"bc", b"d", b"e"]


def test_a_damaged_index_is_made_again(tmp_path: Path, scans: list[Path]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nbc\n")
    read_all(path, line_index="beside")
    (kept,) = tmp_path.glob(".a.txt*")
    whole = kept.read_bytes()
    places = range(0, len(whole), 5)
    for at in places:
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_all(path, line_index="beside") == [b"a", b"bc"]
        kept.write_bytes(whole[:at])
        assert read_all(path, line_index="beside") == [b"a", b"bc"]
    assert len(scans) == 1 + 2 * len(places)


def test_an_index_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n")
    (tmp_path / ".a.txt.lines").mkdir()
    assert read_all(path, line_index="beside") == [b"a"]


def test_a_text_that_shrinks_while_it_is_looked_through(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nbc\n")
    with pytest.raises(CorruptRecord, match=r"a\.txt: it has 5 bytes now, and had at least 6"):
        lines.find_line_ends(path, 6, 1)


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_text_that_shrinks_before_its_short_lines_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1\n23\n\r\n")
    read_all(path, line_index="beside")
    real = lines._layout_of

    def shrink(*args: Any) -> VariedLayout:
        os.truncate(path, left)
        return real(*args)

    monkeypatch.setattr(lines, "_layout_of", shrink)
    with pytest.raises(CorruptRecord, match=rf"a\.jsonl: it has {left} bytes now"):
        RecordReader(path, line_index="beside")


def test_blank_lines_are_found_in_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 7)
    path = tmp_path / "a.jsonl"
    parts = [b"1", b"\r", b"", b"22\r", b"333"] * 20
    path.write_bytes(b"\n".join(parts))
    assert [int(each) for each in RecordReader(path)] == [1, 22, 333] * 20
