"""The arrows between the rooms of the house: who may include or import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "thinwire"

pytestmark = pytest.mark.skipif(not CSRC.exists(), reason="needs the source tree")

# From the bottom up: a room may include itself and every room of a lower tier.
TIERS = (
    {"core"},
    {"hash"},
    {"wire"},
    {"codec"},
    {"dispatch"},
    {"pool"},
    {"transport"},
    {"ring", "dedup", "io"},
    {"bind"},
)
LONGEST_FILE = 400  # lines
MAY_IMPORT_TORCH = ("ddp/", "data/", "store/checkpoint/")


def tier(room: str) -> int:
    return next(level for level, rooms in enumerate(TIERS) if room in rooms)


def native_files() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.is_file())


def includes(path: Path) -> Iterator[tuple[str, bool]]:
    """Each included header, and whether it was written in quotes."""
    for bracket, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.MULTILINE):
        yield name, bracket == '"'


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_every_native_file_lies_in_a_room() -> None:
    rooms = set.union(*TIERS)
    assert native_files()
    for path in native_files():
        assert path.relative_to(CSRC).parts[0] in rooms, path


def test_rooms_include_only_rooms_below() -> None:
    for path in native_files():
        room = path.relative_to(CSRC).parts[0]
        for name, quoted in includes(path):
            if not quoted:
                continue
            assert (CSRC / name).is_file(), f"{path} includes {name}: quote paths from csrc/ on"
            below = Path(name).parts[0]
            assert below == room or tier(below) < tier(room), f"{path}: {room} must not include {name}"


def test_only_bind_sees_python_and_nothing_sees_torch() -> None:
    for path in native_files():
        for name, _ in includes(path):
            assert not re.match(r"(torch|ATen|c10)/", name), f"{path} includes {name}"
            if path.relative_to(CSRC).parts[0] != "bind":
                assert not re.match(r"(pybind11/|Python\.h)", name), f"{path} includes {name}"


def test_cuda_headers_stay_in_cuda_files() -> None:
    for path in native_files():
        if path.suffix in (".cu", ".cuh") or path == CSRC / "core" / "cuda_check.hpp":
            continue
        for name, _ in includes(path):
            assert not re.match(r"cuda|cooperative_groups|cub/", name), f"{path} includes {name}"


def test_torch_is_imported_only_where_the_design_says() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(MAY_IMPORT_TORCH):
            assert not {module.partition(".")[0] for module in imported_modules(path)} & {"torch"}, name


@pytest.mark.parametrize(
    ("module", "others"),
    [("thinwire", {"torch", "cupy"}), ("thinwire.data", {"torch", "thinwire.ddp", "thinwire.store"})],
)
def test_importing_a_package_leaves_others_alone(module: str, others: set[str]) -> None:
    code = f"import sys, {module}; print({others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_files_stay_short() -> None:
    paths = [*native_files(), *(ROOT / "python").rglob("*.py"), *(ROOT / "bench").glob("*.py")]
    long = {
        str(path): lines for path in paths if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert not long
