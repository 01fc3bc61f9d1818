"""`thinwire bench gpu`: what it says without a GPU, and its rows with the CPU in a GPU's place."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from thinwire import _core
from thinwire.bench import _cases, _gpu_device, _gpu_hook, _gpu_ipc, _gpu_kernels, _gpu_memory, gpu
from thinwire.bench._cases import Case, LeftOut, Measured
from thinwire.cli.main import main

TINY = _gpu_device.Effort(rounds=2, mebibytes=1, launches=2, steps=1)
VALUES = 1 << 18
FRAME = 96


def no_gpu(*_: object) -> Any:
    raise LeftOut(_gpu_device.NO_GPU)


class HostEvent:
    """An event by the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        """All has happened."""

    def elapsed_time(self, end: HostEvent) -> float:
        return 1e3 * (end.at - self.at)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """The CPU in the place of the GPU; what was launched there."""
    torch = pytest.importorskip("torch")
    noted: list[tuple[str, tuple[Any, ...]]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *arguments, used=None: noted.append((name, arguments))

    monkeypatch.setattr(_gpu_device, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", HostEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(_core, "build_info", lambda: {"cuda": True, "cuda_reason": ""})
    monkeypatch.setattr(_core, "cuda_work_bytes", lambda layout, frames: 4096)
    for name in ("cuda_launch_encode", "cuda_launch_decode"):
        monkeypatch.setattr(_core, name, note(name))
    return noted


def run(what: str, baseline: str = "") -> _cases.Row:
    (case,) = [case for case in gpu.chosen([what]) if baseline in case.baseline]
    return case.run(TINY)


def test_without_a_gpu_every_row_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (_gpu_device, _gpu_memory):
        monkeypatch.setattr(module, "torch_on_gpu", no_gpu)
    target = tmp_path / "gpu.json"
    assert main(["bench", "gpu", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "\nno GPU: not measured\n" in printed
    facts = json.loads(target.read_text())
    assert facts["device"] is None
    assert len(facts["rows"]) == len(gpu.chosen(None)) > 12
    assert {row["left_out"] for row in facts["rows"]} == {"no GPU"}
    assert all(row["met"] is None for row in facts["rows"])


def test_a_build_without_kernels_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu_device, "torch_on_gpu", lambda: None)
    monkeypatch.setattr(_core, "build_info", lambda: {"cuda": False, "cuda_reason": "switched off"})
    row = run("int8 encode")
    assert row.left_out == "no CUDA kernels: switched off; make gpu builds them"


@pytest.mark.parametrize("name", [*_gpu_kernels.BLOCK_CODECS, "topk 1 % + feedback"])
def test_encoding_counts_the_bytes_that_must_move(name: str, launches: list[Any]) -> None:
    row = run(f"{name} encode" if name in _gpu_kernels.BLOCK_CODECS else name)
    assert row.measured
    spec = _gpu_kernels.TOPK if "topk" in name else name
    assert row.measured.byte_count == 12 * VALUES + tw.codec(spec).bound(VALUES)
    assert len(launches) == (TINY.rounds + 1) * TINY.launches
    called, (layout, x, dtype, scale, before, after, *_, frame, work, stream) = launches[0]
    assert (called, layout.count, dtype, scale, before, stream) == (
        "cuda_launch_encode",
        VALUES,
        0,
        1.0,
        after,
        77,
    )
    assert len({x, *before, frame, work}) == 4


def test_decoding_adds_the_frames_of_all_peers(launches: list[Any]) -> None:
    row = run("sign1 decode")
    assert row.measured
    assert row.measured.byte_count == 8 * VALUES + 4 * tw.codec("sign1").bound(VALUES)
    encoded = [arguments[-3] for name, arguments in launches if name == "cuda_launch_encode"]
    decoded = [arguments for name, arguments in launches if name == "cuda_launch_decode"]
    assert len(set(encoded)) == 4
    assert {(tuple(frames), add) for _, frames, _, _, add, _, _ in decoded} == {(tuple(encoded), True)}


def test_the_baseline_is_the_copy_of_as_many_bytes(
    launches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(_gpu_device, "event_seconds", lambda torch, action, launches: 1.0)
    measured = _gpu_device.against_copy(torch, lambda: None, 6 << 20, TINY)
    assert measured.ratios(at_most=False) == [3.0, 3.0]  # the copy moved 2 MiB in the same second
    assert measured.byte_count == 6 << 20


def test_a_fingerprint_is_measured_against_its_bar(launches: list[Any]) -> None:
    row = run("fingerprint")
    assert row.measured
    assert row.measured.byte_count == 1 << 20
    assert row.measured.shown(row.measured.base) == pytest.approx([150.0] * TINY.rounds)


@pytest.mark.parametrize("what", ["H2D", "D2H"])
def test_copies_move_the_bytes(what: str, launches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    blocks = [np.full(1 << 20, value, np.uint8) for value in (1, 2)]
    monkeypatch.setattr(
        _gpu_memory,
        "pinned_block",
        lambda pool, size: SimpleNamespace(torch=lambda: torch.from_numpy(blocks[0])),
    )
    monkeypatch.setattr(_gpu_memory, "_pinned_by", lambda name, torch, size: torch.from_numpy(blocks[1]))
    row = run(what, "torch")
    assert row.measured
    assert row.measured.byte_count == 1 << 20
    changed = not np.array_equal(blocks[0], np.full(1 << 20, 1, np.uint8))
    assert changed == (what == "D2H")


def test_memory_that_is_not_pinned_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu_memory, "PINNING_S", 0.0)
    with pytest.raises(LeftOut, match="the pool's memory stays "):
        _gpu_memory.pinned_block(tw.HostPool(register_with_cuda=False), 1 << 20)


def test_times_at_which_both_ran() -> None:
    pytest.importorskip("torch")
    from thinwire.bench._gpu_overlap import common_seconds

    assert common_seconds([(0, 2), (3, 5)], [(1, 4), (4, 4.5)]) == pytest.approx(1 + 1 + 0.5)
    assert common_seconds([(0, 1)], [(1, 2)]) == 0


def test_steps_are_timed_with_and_without_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_gpu_device, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(_gpu_hook, "torch_and_kernels", lambda: torch)
    for name, value in {"LAYERS": 1, "WIDTH": 64, "HEADS": 2, "BATCH": 2, "LENGTH": 8}.items():
        monkeypatch.setattr(_gpu_hook, name, value)
    attached: list[Any] = []
    attach = _gpu_hook.Training.attach
    monkeypatch.setattr(_gpu_hook.Training, "attach", lambda self: attached.append(attach(self)))
    row = run("step of 100 M")
    assert row.measured
    assert len(attached) == 1
    assert (row.measured.unit, len(row.measured.own)) == ("ms", TINY.rounds)


def test_a_row_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail(effort: Any) -> Measured:
        raise tw.CudaError("out of memory")

    cases = [
        Case("first", "base", 1.0, fail),
        Case("second", "base", 1.0, lambda _: Measured([1.0], [2.0], 1)),
    ]
    monkeypatch.setattr(gpu, "chosen", lambda only: cases)
    assert main(["bench", "gpu", "--quick"]) == 1
    printed = capsys.readouterr()
    assert "failed: first, base: out of memory" in printed.err
    assert printed.out.splitlines()[-3].split()[-1] == "met"


def test_a_wrong_sum_is_told_in_the_place_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise RuntimeError("the sum is wrong")

    rank = SimpleNamespace(seconds=lambda: 1.0, check=check)
    monkeypatch.setattr(_gpu_ipc, "Rank", lambda *_: nullcontext(rank))
    ours, theirs = multiprocessing.Pipe()
    ours.send("sum")
    _gpu_ipc._serve(theirs, "", 1, 8)
    assert ours.recv() == "rank 1: the sum is wrong"


def test_two_ranks_add_up_their_values_in_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_gpu_device, "DEVICE", "cpu")
    monkeypatch.setattr(_gpu_ipc, "torch_and_kernels", lambda: torch)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for name in ("Device", "OnDevice"):
        monkeypatch.setattr(_core, name, lambda *_: None)

    def sums(number: int) -> list[str]:
        said = []
        with _gpu_ipc.Rank(str(tmp_path), number, 300_000) as rank:
            for _ in range(2):
                assert rank.seconds() > 0
                try:
                    rank.check()
                except RuntimeError as error:
                    said.append(str(error))
        return said

    with ThreadPoolExecutor(_gpu_ipc.RANKS) as pool:
        for said in pool.map(sums, range(_gpu_ipc.RANKS)):
            assert said == ["CUDA IPC is not open yet"]  # nor will it be: the values are right
