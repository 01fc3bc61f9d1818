"""Builds thinwire with this machine's own Python, torch and nvcc, and proves it on its GPU: `make gpu`.

Run it by the Python that has torch. Nothing is fetched; all that is made lies in build/gpu. It ends with a
table: each step passed, failed, or was not measured, and why.

Exit status: 0 where nothing failed. That includes a machine without a GPU, where nothing is built or run and
the table says so: `make cuda` compiles the kernels there. 1 where a step failed, 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "gpu"
SITE, BUILD = FOLDER / "site", FOLDER / "cmake"
BENCH_JSON = FOLDER / "bench.json"

PASSED, FAILED, NOT_MEASURED = "passed", "FAILED", "not measured"
NO_GPU = "no GPU"

SKBUILD, PYBIND11 = ("scikit-build-core", 1), ("pybind11", 3)
"""What pip builds with, and the major versions that serve."""

TESTS = "tests/gpu"
RANKS = tuple(f"tests/gpu/test_cuda_{name}.py" for name in ("hook", "ipc", "powersgd", "c10d"))
"""Those that start processes: each that hangs takes a minute, so a few that fail are enough."""
SANITIZED = (
    "tests/gpu/test_cuda_codecs.py::test_scales_held_segments_and_residuals_apart",
    "tests/gpu/test_cuda_codecs.py::test_a_plan_of_more_segments_than_a_launch_takes",
    "tests/gpu/test_cuda_codecs.py::test_topk_rows_that_are_full_and_a_cap_that_is_reached",
    "tests/gpu/test_cuda_codecs.py::test_topk_with_a_sample_that_misleads",
    "tests/gpu/test_cuda_basis.py::test_dtypes_scales_and_held_segments",
    "tests/gpu/test_cuda_basis.py::test_frames_are_added_in_their_order",
    "tests/gpu/test_cuda_basis.py::test_lessons_of_special_values",
    "tests/gpu/test_cuda_powersgd.py::test_a_bucket_has_the_bits_of_the_cpu",
    "tests/gpu/test_cuda_powersgd.py::test_lessons_have_the_bits_of_the_cpu",
    "tests/gpu/test_launches.py::test_frames_are_added_in_their_order",
    "tests/gpu/test_launches.py::test_the_device_finds_out_what_is_held",
    "tests/gpu/test_fingerprint.py::test_data_at_any_address",
)
"""Tests that together launch every kernel, on data small enough for a program that runs 100 times slower."""


class Outcome(NamedTuple):
    """What came of a step: PASSED, FAILED or NOT_MEASURED, and a few words."""

    result: str
    detail: str


class Step(NamedTuple):
    """A row of the table."""

    name: str
    run: Callable[[], Outcome]


def main(arguments: Sequence[str]) -> int:
    """Runs the steps, prints the table; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [step.name for step in STEPS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="STEP", help=", ".join(names)
    )
    only = parser.parse_args(arguments).only
    gpu = find_gpu()
    print(f"GPU: {gpu or 'none'}", flush=True)
    rows = run_steps([step for step in STEPS if step.name in only], gpu)
    print(f"\n{format_table(rows)}")
    if gpu is None:
        print(f"\n{NO_GPU}: {NOT_MEASURED}")
    return int(any(outcome.result == FAILED for _, outcome, _ in rows))


def run_steps(steps: Sequence[Step], gpu: str | None) -> list[tuple[str, Outcome, float]]:
    """Name, outcome and seconds of each step. Where the build fails, nothing else is run."""
    rows: list[tuple[str, Outcome, float]] = []
    reason = NO_GPU if gpu is None else lacks()
    if not reason and "build" not in (step.name for step in steps):
        reason = imports_another()
    for step in steps:
        begin = time.monotonic()
        if reason:
            outcome = Outcome(NOT_MEASURED if gpu is None else FAILED, reason)
        else:
            print(f"\n== {step.name}", flush=True)
            outcome = step.run()
            if step.name == "build" and outcome.result == FAILED:
                reason = "there is no build"
        rows.append((step.name, outcome, time.monotonic() - begin))
    return rows


def format_table(rows: Sequence[tuple[str, Outcome, float]]) -> str:
    """The rows as text."""
    cells = [("step", "result", "time", "")]
    cells += [(name, result, f"{seconds:.0f} s", detail) for name, (result, detail), seconds in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = ["  ".join((*map(str.ljust, row, widths), row[3])).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def find_gpu() -> str | None:
    """The name of the first CUDA device as the driver says it; None where there is no driver or no device."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    name, device, count = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return None
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace")


def lacks() -> str:
    """What is missing on a machine with a GPU; empty where nothing is."""
    if importlib.util.find_spec("torch") is None:
        return f"{sys.executable} has no torch; name one that has it: make gpu PYTHON=..."
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool, path=environment()["PATH"]) is None:
            return f"{tool} is not on the PATH"
    return ""


def environment(**more: str) -> dict[str, str]:
    """The variables of what is run: it finds tools beside this Python and beside nvcc, and what was built."""
    path = os.environ.get("PATH", os.defpath)
    nvcc = shutil.which("nvcc", path=path) or "/usr/local/cuda/bin/nvcc"
    folders = [
        str(Path(sys.executable).parent),
        path,
        str(Path(nvcc).resolve().parent),
        str(Path(nvcc).parent),
    ]
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count()))
    own = {"PATH": os.pathsep.join(folders), "PYTHONPATH": str(SITE), "CMAKE_BUILD_PARALLEL_LEVEL": jobs}
    return {**os.environ, **own, **more}


def execute(command: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[int, list[str]]:
    """Runs a command and shows what it prints; its exit status and its lines, at least one."""
    print("$", " ".join(command), flush=True)
    lines = [""]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines += [line.strip()] if line.strip() else []
    return process.returncode, lines


def succeed(*commands: Sequence[str]) -> Outcome:
    """Runs commands until one fails."""
    for command in commands:
        status, lines = execute(command, {"THINWIRE_CUDA": "ON"})
        if status:
            return failure(status, lines)
    return Outcome(PASSED, "")


def failure(status: int, lines: Sequence[str]) -> Outcome:
    """That of a command."""
    return Outcome(FAILED, f"exit status {status}: {lines[-1]}")


def build() -> Outcome:
    """By pip where this Python has what the build needs, else by CMake with torch's copy of pybind11."""
    shutil.rmtree(SITE, ignore_errors=True)
    by_pip = serves(*SKBUILD) and serves(*PYBIND11)
    outcome = build_by_pip() if by_pip else build_by_cmake()
    if outcome.result == FAILED:
        return outcome
    if reason := imports_another():
        return Outcome(FAILED, reason)
    return Outcome(PASSED, "by pip" if by_pip else "by CMake")


def imports_another() -> str:
    """Says where this Python has its thinwire from if that is not what was built here."""
    found = execute([sys.executable, "-c", "import thinwire; print(thinwire.__file__)"])[1][-1]
    return "" if Path(found).is_relative_to(SITE) else f"this Python imports another thinwire: {found}"


def serves(package: str, major: int) -> bool:
    """Whether a package is installed in that major version or a newer one."""
    try:
        return int(importlib.metadata.version(package).partition(".")[0]) >= major
    except importlib.metadata.PackageNotFoundError:
        return False


def build_by_pip() -> Outcome:
    """A wheel of the tree, unpacked in SITE."""
    offline = [
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ]
    settings = [f"build-dir={BUILD}", "cmake.define.CMAKE_CUDA_ARCHITECTURES=native"]
    options = [f"--config-settings={setting}" for setting in settings]
    return succeed(
        [sys.executable, "-m", "pip", "install", *offline, *options, "--target", str(SITE), str(ROOT)]
    )


def build_by_cmake() -> Outcome:
    """The same files, without a Python package that would build them."""
    headers = pybind11_headers()
    if headers is None:
        return Outcome(FAILED, "neither pybind11 3 nor a torch that brings its headers is installed")
    version = re.search(r'"(.+)"', (ROOT / "python/thinwire/_version.py").read_text())
    assert version, "_version.py names no version"
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CUDA_ARCHITECTURES": "native",
        "Python_EXECUTABLE": sys.executable,
        "SKBUILD_PROJECT_VERSION": version[1],
        "THINWIRE_CUDA": "ON",
        "THINWIRE_PYBIND11_HEADERS": str(headers),
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    shutil.copytree(ROOT / "python" / "thinwire", SITE / "thinwire")
    shutil.copytree(ROOT / "bench", SITE / "thinwire" / "bench", ignore=shutil.ignore_patterns("results"))
    return succeed(
        ["cmake", "-S", str(ROOT), "-B", str(BUILD), *defines],
        ["cmake", "--build", str(BUILD), "--target", "_core"],
        ["cmake", "--install", str(BUILD), "--component", "python", "--prefix", str(SITE)],
    )


def pybind11_headers() -> Path | None:
    """The folder that holds pybind11/pybind11.h of a version that serves."""
    for package in ("pybind11", "torch"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or []:
            headers = Path(folder, "include")
            common = headers / "pybind11" / "detail" / "common.h"
            version = common.exists() and re.search(r"PYBIND11_VERSION_MAJOR (\d+)", common.read_text())
            if version and int(version[1]) >= PYBIND11[1]:
                return headers
    return None


def run_tests(
    tests: Sequence[str], before: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> Outcome:
    """pytest on the GPU, under the program `before`. Tests that were all skipped have not passed."""
    if importlib.util.find_spec("pytest") is None:
        return Outcome(NOT_MEASURED, "pytest is not installed")
    options = "-m gpu -q -p no:cacheprovider --continue-on-collection-errors --tb=short --durations=10"
    command = [*before, sys.executable, "-m", "pytest", *options.split(), *tests]
    # Processes are forked from one that has imported torch: it must not have asked CUDA whether it is there.
    status, lines = execute(command, {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", **(variables or {})})
    if status:
        return failure(status, lines)
    counts = next((line.strip("= ") for line in reversed(lines) if re.search(r"\d+ passed", line)), None)
    return Outcome(PASSED, counts) if counts else Outcome(FAILED, f"no test ran: {lines[-1]}")


def sanitize(tool: str) -> Outcome:
    """The kernels' tests under one tool of compute-sanitizer."""
    if shutil.which("compute-sanitizer", path=environment()["PATH"]) is None:
        return Outcome(NOT_MEASURED, "compute-sanitizer is not on the PATH")
    # Tests provoke errors of the API. torch must not hand out parts of larger allocations: memcheck would
    # take what lies behind an array for its memory. Processes that tests start are left alone.
    sanitizer = ["compute-sanitizer", "--tool", tool, "--target-processes", "application-only"]
    sanitizer += ["--report-api-errors", "no", "--error-exitcode", "33"]
    return run_tests(SANITIZED, sanitizer, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})


def bench() -> Outcome:
    """Every row of `thinwire bench gpu`. A missed bar is no failure; the figures are in BENCH_JSON."""
    status, lines = execute([sys.executable, "-m", "thinwire", "bench", "gpu", "--json", str(BENCH_JSON)])
    if status:
        return failure(status, lines)
    return Outcome(PASSED, f"figures: {BENCH_JSON.relative_to(ROOT)}")


STEPS = (
    Step("build", build),
    Step("tests", lambda: run_tests([TESTS, *(f"--ignore={path}" for path in RANKS)])),
    Step("ranks", lambda: run_tests([*RANKS, "--maxfail=3"])),
    Step("memcheck", lambda: sanitize("memcheck")),
    Step("racecheck", lambda: sanitize("racecheck")),
    Step("bench", bench),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
