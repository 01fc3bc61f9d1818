"""`thinwire store`: each action through the command line, its text, its JSON and its exit status."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thinwire.cli import store as command
from thinwire.cli._progress import Bar, bar_line
from thinwire.cli.main import main

pytest.importorskip("zstandard")

PASSPHRASE, KEY_FILE = "THINWIRE_STORE_PASSPHRASE", "THINWIRE_STORE_KEY_FILE"


class Outcome:
    """What one command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `thinwire store ...` in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Outcome:
        status = main(["store", *map(str, arguments)])
        seen = capsys.readouterr()
        return Outcome(status, seen.out, seen.err)

    return call


def random_file(path: Path, size: int = 300_000, seed: int = 1) -> bytes:
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return content


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def pack_of(store: Path) -> Path:
    return next(path for path in (store / "packs").rglob("*") if path.is_file())


def test_a_file_comes_back(run: Run, tmp_path: Path) -> None:
    content = random_file(tmp_path / "in")
    done = run("put", "st", "run/weights", "in")
    assert (done.status, done.out) == (0, "run/weights@1  293 KiB\n")
    assert run("get", "st", "run/weights", "out").status == 0
    assert (tmp_path / "out").read_bytes() == content


def test_a_folder_comes_back(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("one")
    (tree / "sub" / "b").write_text("two")
    assert run("put", "st", "tree", "tree").status == 0
    assert run("get", "st", "tree@1", "back").status == 0
    assert (tmp_path / "back" / "a").read_text() == "one"
    assert (tmp_path / "back" / "sub" / "b").read_text() == "two"
    refused = run("get", "st", "tree", "-")
    assert (refused.status, "is a folder" in refused.err) == (1, True)


def test_standard_input_and_output() -> None:
    content = bytes(range(256)) * 999
    thinwire = f"{sys.executable} -m thinwire store"
    line = f"{thinwire} put st name - >&2 && {thinwire} get st name -"
    done = subprocess.run(["sh", "-c", line], input=content, capture_output=True, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert done.stdout == content


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in (PASSPHRASE, KEY_FILE):
        monkeypatch.delenv(variable, raising=False)


def test_get_writes_over_nothing_unless_told(run: Run, tmp_path: Path) -> None:
    content = random_file(tmp_path / "in", 1000)
    run("put", "st", "x", "in")
    (tmp_path / "out").write_text("mine")
    refused = run("get", "st", "x", "out")
    assert (refused.status, "--force" in refused.err) == (1, True)
    assert (tmp_path / "out").read_text() == "mine"
    assert run("get", "st", "x", "out", "--force").status == 0
    assert (tmp_path / "out").read_bytes() == content


def test_ls(run: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 5000)
    for name in ("a/x", "a/y", "b", "b"):
        run("put", "st", name, "in", "--metadata", "source=here")
    listed = run("ls", "st").out.splitlines()
    assert [line.split()[0] for line in listed] == ["name", "a/x@1", "a/y@1", "b@2"]
    assert "4.883 KiB" in listed[1]
    assert len(run("ls", "st", "b", "--versions").out.splitlines()) == 3
    first = run("ls", "st", "a/x", "--json").json["versions"][0]
    assert (first["name"], first["version"], first["size"]) == ("a/x", 1, 5000)
    assert first["metadata"] == {"source": "here"}


def test_du(run: Run, tmp_path: Path) -> None:
    content = random_file(tmp_path / "in")
    (tmp_path / "more").write_bytes(content + random_file(tmp_path / "other", seed=2))
    for name in ("x", "x", "y"):
        run("put", "st", name, "in")
    run("put", "st", "y", "more")
    names = {each["name"]: each for each in run("du", "st", "--json").json["names"]}
    assert (names["x"]["logical"], names["x"]["unique"]) == (600_000, 300_000)
    assert names["x"]["own"] < names["x"]["stored"]  # y shares it
    assert names["y"]["unique"] >= 600_000
    assert names["y"]["own"] >= 300_000
    text = run("du", "st", "x").out
    assert "585.9 KiB" in text
    assert "\ny " not in text
    assert "in all: 2 names, 4 versions" in text


def test_diff_of_a_file(run: Run, tmp_path: Path) -> None:
    content = bytearray(random_file(tmp_path / "in", 2_000_000))
    run("put", "st", "x", "in")
    content[1_000_000] ^= 1
    (tmp_path / "in").write_bytes(content)
    run("put", "st", "x", "in")
    done = run("diff", "st", "x@1", "x@2", "--json")
    assert done.status == 6
    (change,) = done.json["changes"]
    for side in "ab":
        ((begin, end),) = change[side]
        assert begin <= 1_000_000 < end
        assert end - begin < 1_000_000
    same = run("diff", "st", "x@1", "x@1")
    assert (same.status, same.out) == (0, "x@1 and x@1 are equal\n")


def test_diff_of_a_folder(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("gone", "kept", "changed", "mode"):
        random_file(tree / name, 5000, seed=len(name))
    run("put", "st", "tree", "tree")
    (tree / "gone").unlink()
    (tree / "changed").write_text("else")
    (tree / "mode").chmod(0o600)
    (tree / "new").write_text("new")
    run("put", "st", "tree", "tree")
    done = run("diff", "st", "tree@1", "tree@2")
    assert done.status == 6
    lines = sorted(line.split()[:2] for line in done.out.splitlines())
    assert lines == [["added", "new"], ["changed", "changed"], ["changed", "mode"], ["removed", "gone"]]
    changes = {each["name"]: each for each in run("diff", "st", "tree@1", "tree@2", "--json").json["changes"]}
    assert changes["changed"]["a"] == [[0, 5000]]
    assert changes["changed"]["b"] == [[0, 4]]
    assert changes["mode"]["a"] == changes["mode"]["b"] == []


def test_delete_and_gc(run: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "in")
    random_file(tmp_path / "other", seed=2)
    run("put", "st", "x", "in")
    run("put", "st", "x", "other")
    assert run("delete", "st", "x@1").status == 0
    done = run("gc", "st", "--wait", "5", "--json")
    assert done.status == 0
    assert done.json["packs"] == 1
    assert done.json["bytes"] >= 300_000
    assert run("get", "st", "x@2", "out").status == 0
    assert run("get", "st", "x@1", "old").status == 4


def test_gc_says_for_whom_it_waits(run: Run, tmp_path: Path) -> None:
    from thinwire.store import Store

    random_file(tmp_path / "in")
    run("put", "st", "x", "in")
    run("delete", "st", "x")
    with Store(tmp_path / "st") as store, store.writer("y"):
        done = run("gc", "st", "--wait", "0")
    assert done.status == 5
    assert f"process {os.getpid()}" in done.out
    assert "nothing was deleted" in done.out


def test_verify_and_repair_name_the_files(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        random_file(tree / f"file{number}", 200_000, seed=number)
    run("put", "st", "tree", "tree")
    sound = run("verify", "st")
    assert (sound.status, "all sound" in sound.out) == (0, True)
    assert run("sync", "st", "copy").status == 0
    pack = pack_of(tmp_path / "st")
    flip(pack, pack.stat().st_size - 50_000)
    damaged = run("verify", "st")
    assert damaged.status == 3
    assert "(file3)" in damaged.out
    (chunk,) = [each for each in run("verify", "st", "--json").json["damage"] if each["hits"]]
    assert chunk["hits"][0]["parts"] == ["file3"]
    lost = run("get", "st", "tree", "out")
    assert lost.status == 3
    assert not (tmp_path / "out").exists()
    assert run("get", "st", "tree", "out", "--replica", "copy").status == 0
    assert run("repair", "st", "--replica", "copy").status == 0
    assert run("get", "st", "tree", "again").status == 0
    assert (tmp_path / "again" / "file3").read_bytes() == (tree / "file3").read_bytes()


def test_quick_verify_sees_that_a_pack_is_missing(run: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "in")
    run("put", "st", "x", "in")
    pack_of(tmp_path / "st").unlink()
    assert run("verify", "st", "--quick").status == 3


def test_sync_sends_what_is_missing(run: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "in")
    run("put", "st", "x", "in")
    first = run("sync", "st", "copy", "--json").json
    assert (first["versions"], first["sent"]) == (1, 300_000)
    again = run("sync", "st", "copy", "--json").json
    assert (again["versions"], again["sent"]) == (0, 0)
    assert run("get", "copy", "x", "out").status == 0


@pytest.mark.parametrize("how", ["--passphrase-file", "--key-file", PASSPHRASE, KEY_FILE])
def test_encrypted_stores(run: Run, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    content = random_file(tmp_path / "in", 1000)
    (tmp_path / "secret").write_text("a long and winding secret\nnot this\n")
    options: list[str] = []
    if how.startswith("--"):
        options = [how, "secret"]
    else:
        monkeypatch.setenv(how, "secret" if how == KEY_FILE else "a long and winding secret")
    assert run("put", "st", "x", "in", *options).status == 0
    assert content not in pack_of(tmp_path / "st").read_bytes()
    assert run("get", "st", "x", "out", *options).status == 0
    assert (tmp_path / "out").read_bytes() == content
    monkeypatch.delenv(how, raising=False)
    (tmp_path / "wrong").write_text("another long and winding secret")
    for wrong in ([], ["--passphrase-file", "wrong"], ["--key-file", "wrong"]):
        assert run("ls", "st", *wrong).status == 1


def test_key_files_that_do_not_serve(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert "nothere cannot be read" in run("ls", "st", "--key-file", "nothere").err
    assert "first line of empty" in run("ls", "st", "--passphrase-file", "empty").err


def test_a_missing_package_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    done = run("put", "st", "x", ".")
    assert (done.status, "pip install 'thinwire[store]'" in done.err) == (1, True)


def test_statuses(run: Run, tmp_path: Path) -> None:
    random_file(tmp_path / "in", 1000)
    assert run("ls", "nothere").status == 4
    assert not (tmp_path / "nothere").exists()
    assert run("put", "st", "x", "nosuchfile").status == 1
    assert not (tmp_path / "st").exists()
    assert run("put", "st", "../x", "in").status == 1
    assert run("put", "st", "x", "in", "--expect", "0").status == 0
    assert run("put", "st", "x", "in", "--expect", "0").status == 5
    assert run("get", "st", "y", "out").status == 4
    assert run("get", "st", "x@7", "out").status == 4
    with pytest.raises(SystemExit) as caught:
        run("put", "st", "x", "in", "--metadata", "nopair")
    assert caught.value.code == 2


def test_packs_in_several_places(run: Run, tmp_path: Path) -> None:
    data = random_file(tmp_path / "in")
    assert run("put", "st", "x", "in").status == 0
    assert run("locations", "st", "--add", "more", "--weight", "2").status == 0
    assert run("locations", "st", "--add", "st", "--weight", "0").status == 0
    random_file(tmp_path / "in", seed=2)
    assert run("put", "st", "x", "in").status == 0
    own, more = run("locations", "st", "--json").json["locations"]
    assert (own["packs"], own["weight"], more["packs"], more["weight"]) == (1, 0, 1, 2)
    assert more["url"] == str(tmp_path / "more")
    assert str(tmp_path / "more") in run("locations", "st").out
    assert run("locations", "st", "--remove", more["url"]).status == 1
    (tmp_path / "more").rename(tmp_path / "moved")
    listed = run("locations", "st")
    assert listed.status == 3
    assert "more is missing" in listed.out
    assert run("verify", "st").status == 3
    assert run("get", "st", "x@1", "out").status == 0
    assert (tmp_path / "out").read_bytes() == data
    failed = run("get", "st", "x@2", "out2")
    assert failed.status == 1
    assert "more is missing" in failed.err
    assert run("get", "st", "x@2", "out2", "--location", "moved").status == 0
    assert run("get", "st", "x@2", "out3", "--location", "elsewhere").status == 4
    assert run("locations", "st", "--add", "moved").status == 0
    assert run("verify", "st").status == 0
    assert run("du", "st", "--json").json["store"]["packs"] == 2
    assert run("locations", "st", "--add", "st").status == 0
    own, moved = run("locations", "st", "--empty", str(tmp_path / "moved"), "--json").json["locations"]
    assert (own["packs"], moved["packs"], moved["weight"]) == (2, 0, 0)
    assert run("locations", "st", "--remove", str(tmp_path / "moved")).status == 0
    assert run("verify", "st").status == 0


def test_dedup_records(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n2\n1\n")
    (tmp_path / "b.txt").write_text("2\n3\n")
    done = run("dedup-records", "a.txt", "b.txt", "--out", "clean")
    assert (done.status, done.out) == (
        0,
        "5 records in 2 files, 2 of them duplicates\n10 B in, 6 B out, 4 B less\n",
    )
    assert (tmp_path / "clean" / "b.txt").read_text() == "3\n"
    facts = run("dedup-records", "a.txt", "--out", "again", "--json").json
    assert facts == {"files": 1, "records": 3, "duplicates": 1, "bytes_in": 6, "bytes_out": 4}
    assert run("dedup-records", "a.txt", "--out", "again").status == 1
    assert run("dedup-records", "nothere", "--out", "else").status == 4


def test_help_lists_every_status_and_action(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["store"], *(["store", action] for action in command.ACTIONS)):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--help"])
        assert caught.value.code == 0
        assert "examples:" in capsys.readouterr().out


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("none")


def test_a_bar_moves_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, wanted, speaks in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        monkeypatch.setattr(sys, "stderr", error)
        monkeypatch.setattr("thinwire.cli._progress._EVERY_S", 0.0)
        with Bar("put x", wanted) as bar:
            bar(50, 100)
        assert ("put x" in error.getvalue()) == speaks


def test_a_line_of_a_bar() -> None:
    assert (
        bar_line(512 << 20, 1 << 30, 2.0)
        == "[############............]  50%  512 MiB of 1 GiB  256 MiB/s  2 s left"
    )
    assert bar_line(1 << 20, None, 1.0) == "1 MiB  1 MiB/s"
    assert bar_line(0, 100, 0.0).startswith("[........................]   0%")
