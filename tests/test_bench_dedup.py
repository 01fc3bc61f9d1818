"""`thinwire bench dedup`: which rows it measures, and what it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from thinwire.bench import dedup
from thinwire.bench._cases import Case, Effort, LeftOut, Measured
from thinwire.bench._dedup_sizes import unique_bytes
from thinwire.cli.main import main

_STATE_BYTES = 2_000_000


def test_unique_bytes_counts_a_chunk_once() -> None:
    assert unique_bytes([b"aabb", b"bbcc"], lambda data: [2, 4]) == 6


def test_rows_are_chosen_by_text() -> None:
    assert len(dedup.chosen(None)) > 10
    assert {case.baseline for case in dedup.chosen(["xxh3", "DCP"])} == {"xxhash", "DCP"}


def test_the_command_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def present(effort: Effort) -> Measured:
        return Measured([1.0], [2.0], 1)

    def absent(effort: Effort) -> Measured:
        raise LeftOut("pip install it")

    cases = [Case("what", "baseline", 1.5, present), Case("other", "baseline", 1.0, absent)]
    monkeypatch.setattr(dedup, "chosen", lambda only: cases)
    target = tmp_path / "out.json"
    assert main(["bench", "dedup", "--quick", "--json", str(target)]) == 0
    assert "met" in capsys.readouterr().out
    rows = json.loads(target.read_text())["rows"]
    assert [(row["what"], row["met"]) for row in rows] == [("what", True), ("other", None)]


def test_every_method_of_loading_has_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    loads = pytest.importorskip("thinwire.bench._checkpoint_loads")
    times = pytest.importorskip("thinwire.bench._checkpoint_times")
    assert all(seconds > 0 for seconds in times.measure(tmp_path, _STATE_BYTES))
    assert all(loads.measure(method, tmp_path, _STATE_BYTES) > 0 for method in loads.METHODS)
    found = loads.in_processes(tmp_path, _STATE_BYTES, ["fill", "torch_load"])
    assert list(found) == ["fill", "torch_load"]
    assert all(seconds > 0 for seconds in found.values())
    with pytest.raises(subprocess.CalledProcessError):
        loads.in_processes(tmp_path / "nowhere", _STATE_BYTES, ["load"])
