"""`thinwire bench pool`: the recorded trace, waste, bars, and what is said of what cannot be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from thinwire.bench import _pool_speed, _pool_trace, _pool_waste, pool
from thinwire.bench._pool_trace import Recorder, Trace
from thinwire.cli.main import main

TINY = _pool_speed.Effort(rounds=1, pairs=100, arrays=2, first_use_bytes=8 << 20)


def test_a_trace_takes_and_gives_back(tmp_path: Path) -> None:
    recorder = Recorder()
    first = recorder.take(100)
    second = recorder.take(5000)
    recorder.give(first)
    recorder.give(second)
    path = tmp_path / "trace.json"
    _pool_trace.save(path, {"command": "by hand"}, [Trace("hand", recorder.events), Trace("empty", [])])
    trace, empty = _pool_trace.load(path)
    assert (trace.name, list(trace.events), trace.sizes) == ("hand", [100, 5000, -1, -2], [100, 5000])
    assert list(trace.steps()) == [(0, 100), (1, 5000), (0, 0), (1, 0)]
    assert not empty.sizes
    assert json.loads(path.read_text())["source"] == {"command": "by hand"}


def test_the_recorded_trace_gives_everything_back_once() -> None:
    for trace in _pool_trace.load():
        assert len(trace.sizes) > 100
        held = set()
        for block, size in trace.steps():
            if size:
                held.add(block)
            else:
                held.remove(block)
        assert not held
        assert len(set(trace.sizes)) > 10


def test_powers_of_two_and_what_an_allocator_of_them_holds() -> None:
    trace = Trace("hand", [100, -1, 120, -2, 200, 128])
    assert [_pool_waste.power_of_two(size) for size in (1, 2, 3, 128, 129)] == [1, 2, 4, 128, 256]
    found = _pool_waste.in_powers_of_two(trace)
    assert (found.requested, found.given) == (548, 128 + 128 + 256 + 128)
    assert found.held == 128 + 256  # the blocks of 128 serve again
    assert found.needed == 328
    assert found.rounding == 1 - 548 / 640


def test_the_pool_wastes_less_than_powers_of_two() -> None:
    text = next(trace for trace in _pool_trace.load() if trace.name == "padded text batches")
    own, rounded = _pool_waste.in_pool(text), _pool_waste.in_powers_of_two(text)
    assert 0 < own.rounding < _pool_waste.BAR < rounded.rounding
    assert (own.requested, own.needed) == (rounded.requested, rounded.needed)
    assert own.held >= own.needed


@pytest.mark.parametrize(
    ("one", "two", "met"), [(39.0, 79.0, True), (41.0, 79.0, False), (39.0, 81.0, False), (40.0, 80.0, True)]
)
def test_the_bars_of_pairs(one: float, two: float, met: bool) -> None:
    samples = {"one_thread_ns": [one], "two_threads_ns": [two]}
    row = _pool_speed.pair_row(64 << 10, samples)
    assert row["met"] is met
    assert ("met" if met else "MISSED") in _pool_speed.format_pairs([row])
    small = _pool_speed.pair_row(64, samples)
    assert small["met"] is None
    assert "at most" not in _pool_speed.format_pairs([small])


def test_pinned_memory_without_a_gpu_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch", no_gpu)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(_pool_speed, "find_spec", lambda module: None if module == "cupy" else object())
    makers, left_out = _pool_speed.gpu_makers()
    assert not makers
    assert left_out == {"torch, pinned": "no GPU", "CuPy, pinned": "cupy is not installed"}


def test_the_command_measures_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = [trace for trace in _pool_trace.load() if trace.name == "padded text batches"]
    monkeypatch.setattr(_pool_waste, "load", lambda: text)
    monkeypatch.setattr(_pool_speed, "QUICK", TINY)
    monkeypatch.setattr(_pool_speed, "gpu_makers", lambda: ({}, {"torch, pinned": "no GPU"}))
    target = tmp_path / "out.json"
    assert main(["bench", "pool", "--quick", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    for part in ("allocate + free", "np.empty", "held, 2^n", "first use of 8 MiB", "not measured: torch"):
        assert part in printed
    facts = json.loads(target.read_text())
    assert [row["workload"] for row in facts["waste"]] == ["padded text batches", "all"]
    assert facts["waste"][-1]["met"] is True
    assert len(facts["pairs"]) == len(_pool_speed.PAIR_SIZES)
    assert facts["first_use"]["ratio"]["count"] == 1
    assert facts["left_out"] == {"torch, pinned": "no GPU"}


def test_without_options_the_effort_is_full() -> None:
    assert pool.HELP
    assert _pool_speed.FULL.first_use_bytes == 2 << 30
