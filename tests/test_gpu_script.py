"""scripts/gpu.py, which `make gpu` runs, with stand-ins for the GPU, Python and the CUDA tools."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "gpu.py"
GPU = "NVIDIA Stand-In"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")

Tool = Callable[..., None]


@pytest.fixture
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Make a program in tmp_path/bin that notes how it is called, and then runs a line of shell."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name: str, line: str = "") -> None:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{line}\n')
        program.chmod(0o755)

    return make


@pytest.fixture
def machine(gpu: ModuleType, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU and all tools, where everything succeeds; the file of the calls."""
    site = tmp_path / "site"
    for name in ("nvcc", "cmake"):
        tool(name)
    tool("compute-sanitizer", 'while [ "$1" != "-m" ]; do shift; done; echo "4 passed"; echo ==== 0 errors')
    tool("python", answers(site))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(gpu, "SITE", site)
    monkeypatch.setattr(gpu, "find_gpu", lambda: GPU)
    monkeypatch.setattr(gpu, "serves", lambda package, major: True)
    return tmp_path / "calls"


def answers(site: Path, *, pytest_says: str = "7 passed, 1 skipped in 0.1s", status: int = 0) -> str:
    """What the stand-in of Python prints."""
    return (
        f'case "$*" in\n*thinwire.__file__*) echo {site}/thinwire/__init__.py ;;\n'
        f'*"-m pytest"*) echo "{pytest_says}"; exit {status} ;;\nesac'
    )


def table(printed: str) -> dict[str, tuple[str, str]]:
    """Result and detail of each step."""
    lines = printed[printed.rindex("\nstep ") :].splitlines()[3:]
    rows = [re.match(r"(\w+) +(passed|FAILED|not measured) +\d+ s *(.*)", line) for line in lines]
    return {row[1]: (row[2], row[3]) for row in rows if row}


def test_without_a_gpu_it_says_so_and_runs_nothing(
    gpu: ModuleType, machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: None)
    assert gpu.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("\nno GPU: not measured\n")
    assert table(printed) == {step.name: ("not measured", "no GPU") for step in gpu.STEPS}
    assert not machine.exists()


def test_every_step_runs(gpu: ModuleType, machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 0
    printed = capsys.readouterr().out
    assert table(printed) == {
        "build": ("passed", "by pip"),
        "tests": ("passed", "7 passed, 1 skipped in 0.1s"),
        "ranks": ("passed", "7 passed, 1 skipped in 0.1s"),
        "memcheck": ("passed", "4 passed"),
        "racecheck": ("passed", "4 passed"),
        "bench": ("passed", "figures: build/gpu/bench.json"),
    }
    assert GPU in printed
    assert gpu.NO_GPU not in printed
    install, imported, tests, ranks, memcheck, racecheck, bench = machine.read_text().splitlines()
    for option in ("--no-index", "--no-build-isolation", "--no-deps", "CUDA_ARCHITECTURES=native", str(ROOT)):
        assert option in install
    assert "thinwire.__file__" in imported
    assert " tests/gpu --ignore=" in tests
    for path in gpu.RANKS:
        assert f"--ignore={path}" in tests
        assert path in ranks
        assert (ROOT / path).exists()
    assert "--tool memcheck " in memcheck
    assert "--tool racecheck " in racecheck
    assert all(test in memcheck for test in gpu.SANITIZED)
    assert bench.endswith(f"bench gpu --json {gpu.BENCH_JSON}")


def test_a_python_that_cannot_build_wheels_builds_with_cmake(
    gpu: ModuleType, machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    found = importlib.util.find_spec
    monkeypatch.setattr(gpu, "serves", lambda package, major: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pybind11" else found(name))
    assert gpu.main(["--only", "build"]) == 0
    assert table(capsys.readouterr().out) == {"build": ("passed", "by CMake")}
    configure, build, install, _ = machine.read_text().splitlines()
    headers = re.search(r"-DTHINWIRE_PYBIND11_HEADERS=(\S+)", configure)
    assert headers
    assert Path(headers[1], "pybind11", "pybind11.h").exists()
    assert "-DTHINWIRE_CUDA=ON" in configure
    assert "--target _core" in build
    assert f"--prefix {gpu.SITE}" in install
    assert (gpu.SITE / "thinwire" / "_version.py").exists()
    assert (gpu.SITE / "thinwire" / "bench" / "gpu.py").exists()
    assert not (gpu.SITE / "thinwire" / "bench" / "results").exists()


def test_what_is_missing_is_named(
    gpu: ModuleType, machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin" / "compute-sanitizer").unlink()
    assert gpu.main(["--only", "memcheck"]) == 0
    assert table(capsys.readouterr().out) == {
        "memcheck": ("not measured", "compute-sanitizer is not on the PATH")
    }
    (tmp_path / "bin" / "cmake").unlink()
    if shutil.which("cmake", path=gpu.environment()["PATH"]) is None:
        assert gpu.main(["--only", "build"]) == 1
        assert table(capsys.readouterr().out) == {"build": ("FAILED", "cmake is not on the PATH")}


def test_without_a_build_nothing_else_runs(
    gpu: ModuleType, machine: Path, tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    tool("python", "echo no space left; exit 3")
    assert gpu.main(["--only", "build", "tests"]) == 1
    assert table(capsys.readouterr().out) == {
        "build": ("FAILED", "exit status 3: no space left"),
        "tests": ("FAILED", "there is no build"),
    }
    assert len(machine.read_text().splitlines()) == 1


@pytest.mark.parametrize("step", ["build", "tests"])
def test_another_thinwire_is_not_taken_for_the_build(
    gpu: ModuleType, machine: Path, tool: Tool, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    tool("python", answers(Path("/elsewhere")))
    assert gpu.main(["--only", step]) == 1
    result, detail = table(capsys.readouterr().out)[step]
    assert result == "FAILED"
    assert "imports another thinwire: /elsewhere/" in detail


@pytest.mark.parametrize(
    ("says", "status", "detail"),
    [
        ("1 failed, 6 passed", 1, "exit status 1: 1 failed, 6 passed"),
        ("9 skipped", 0, "no test ran: 9 skipped"),
    ],
)
def test_tests_that_failed_or_did_not_run_are_no_success(
    gpu: ModuleType,
    machine: Path,
    tool: Tool,
    capsys: pytest.CaptureFixture[str],
    says: str,
    status: int,
    detail: str,
) -> None:
    tool("python", answers(gpu.SITE, pytest_says=says, status=status))
    assert gpu.main(["--only", "tests"]) == 1
    assert table(capsys.readouterr().out) == {"tests": ("FAILED", detail)}


def test_the_sanitized_tests_exist(gpu: ModuleType) -> None:
    for test in gpu.SANITIZED:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), test


def test_make_gpu_on_this_machine(gpu: ModuleType) -> None:
    if gpu.find_gpu() is not None or shutil.which("make") is None:
        pytest.skip("there is a GPU, or no make")
    not_under_make = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "gpu", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=not_under_make,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("no GPU: not measured\n")
