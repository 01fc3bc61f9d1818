"""`thinwire bench data`: every row measures something, and the command writes what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from thinwire.bench import _balance, _cases, _data_reading, _permutation
from thinwire.cli.main import main

SMALL = _cases.Effort(rounds=1, mebibytes=1, file_mebibytes=4, state_megabytes=1)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_data_reading, "_WORKERS", (0,))


@pytest.mark.parametrize("case", _data_reading.cases(), ids=lambda case: f"{case.what}, {case.baseline}")
def test_every_row_measures_something(case: _cases.Case, tmp_path: Path) -> None:
    row = case.run(SMALL)
    assert row.measured
    assert row.measured.byte_count in (1 << 20, 4 << 20)
    assert row.ratio
    assert row.ratio.median > 0
    assert list(tmp_path.iterdir()) == []


def test_the_rows_with_a_bar_come_first() -> None:
    bars = [case.bar for case in _data_reading.cases()]
    assert bars[:2] == [3.0, 8.0]
    assert not any(bars[2:])


def test_the_command_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cases, "QUICK", SMALL)
    monkeypatch.setattr(_data_reading, "cases", lambda: [])
    monkeypatch.setattr(_permutation, "index_ns", lambda: [10.0])
    balance = {"a L": {"random order": _balance.Balance(1.5, 2.0)}}
    monkeypatch.setattr(_balance, "rows", lambda: balance)
    target = tmp_path / "out.json"
    assert main(["bench", "data", "--quick", "--json", str(target)]) == 0
    said = capsys.readouterr().out
    assert "1.5000" in said
    assert "10.0 ns (bar: at most 60)" in said
    facts = json.loads(target.read_text())
    assert facts["balance"] == {"a L": {"random order": {"epoch": 1.5, "worst_step": 2.0}}}
    assert facts["index_ns"]["median"] == 10.0
