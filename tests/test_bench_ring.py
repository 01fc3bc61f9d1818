"""`thinwire bench ring`: a tiny run with its files, and its arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from thinwire.bench import _ring_mpi
from thinwire.bench import _ring_plan as plan
from thinwire.cli.main import main

SPREAD = {"median", "low", "high", "count"}
METHODS = ["gloo", "tcp/raw", "tcp/int8", "shm/raw", "shm/int8"]


def test_a_tiny_run_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    figures, picture = tmp_path / "ring.json", tmp_path / "ring.png"
    options = ["--quick", "--no-mpi", "--codecs", "raw", "int8", "--bytes", "4096", "65536", "--rate"]
    assert main(["bench", "ring", *options, "--json", str(figures), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    facts = json.loads(figures.read_text())
    assert facts["benchmark"] == "ring"
    assert "cpu" in facts["machine"]
    (place,) = facts["places"]
    assert (place["kind"], place["ranks"], place["rate_bits"]) == ("loopback", 2, 0)
    assert {kind: links[0]["kind"] for kind, links in place["links"].items()} == {"tcp": "tcp", "shm": "shm"}
    assert [(found["bytes"], found["method"]) for found in place["rows"]] == [
        (size, method) for size in (4096, 65536) for method in METHODS
    ]
    for found in place["rows"]:
        assert found["seconds"].keys() == found["times_gloo"].keys() == SPREAD
        assert 0 < found["seconds"]["low"] <= found["seconds"]["median"] <= found["seconds"]["high"]
        assert found["relative_error"] < (0.02 if found["codec"] == "int8" else 1e-6)
        assert found["of_link"] is None
        assert found["sent_bytes"] is None or found["sent_bytes"] > found["bytes"] / 8
    printed = capsys.readouterr().out
    assert "thinwire int8, shm" in printed
    assert "(lo)" in printed


def test_a_row_compares_samples_of_one_round() -> None:
    place = {"ranks": 4, "rate_bits": 10**9}
    found = plan.row(place, 10**6, "tcp/raw", [0.1, 0.2, 0.4], [0.2, 0.4, 0.8])
    assert found["times_gloo"] == {"median": 2.0, "low": 2.0, "high": 2.0, "count": 3}
    assert found["of_link"]["median"] == pytest.approx(1.5e6 * 8 / 1e9 / 0.2)
    assert plan.row(place, 10**6, "tcp/int8", [0.1], [0.2])["of_link"] is None
    assert plan.row(place, 10**6, "mpi/shm", [0.1], [])["times_gloo"] is None


def test_effort_fits_the_time() -> None:
    effort = plan.Effort(seconds=1.0, least=3, most=11)
    assert [effort.rounds(seconds) for seconds in (10.0, 0.2, 0.0)] == [3, 5, 11]
    assert [plan.calls_for(seconds) for seconds in (1.0, 0.01, 0.0)] == [1, 2, plan.CALLS_LIMIT]


@pytest.mark.parametrize(
    ("size", "text"), [(4096, "4 KiB"), (10**8, "100 MB"), (256 << 20, "256 MiB"), (4, "4 B")]
)
def test_sizes_read_as_they_were_meant(size: int, text: str) -> None:
    assert plan.format_size(size) == text


def test_without_open_mpi_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ring_mpi.shutil, "which", lambda *args, **more: None)
    assert _ring_mpi.HOW_TO_INSTALL in (_ring_mpi.missing() or "")


def test_open_mpi_measures_each_size() -> None:
    if lacking := _ring_mpi.missing():
        pytest.skip(lacking)
    found = _ring_mpi.run("shm", 2, [4096], plan.Effort(0.0, 3, 3))
    assert len(found["sizes"]["4096"]) == 3
    assert found["version"].startswith("Open MPI")


@pytest.mark.parametrize("options", [["--ranks", "1"], ["--bytes", "5"]])
def test_what_cannot_be_measured_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "ring", *options])
    assert "is not a number of" in capsys.readouterr().err


def test_a_rate_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ring", "--no-mpi", "--rate", "fast"]) == 1
    assert "'fast' is not a rate" in capsys.readouterr().err
