"""Code compiled for one CPU target must not be what the linker keeps for another.

A function that two object files both define weakly (a template, an inline function of the standard library)
ends up once in the library, perhaps as the AVX-512 version. So the kernels' object files define nothing weak,
and nothing global but their table.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OBJECTS = sorted(ROOT.glob("build/cp*/CMakeFiles/thinwire_core.dir/csrc/dispatch/target_*.cpp.o"))
"""What an editable installation was built from."""

LOCAL_OR_UNDEFINED = set("trdbnU")  # letters of nm

pytestmark = [
    pytest.mark.skipif(not OBJECTS, reason="needs the build directory of an editable installation"),
    pytest.mark.skipif(not shutil.which("nm"), reason="needs nm of binutils"),
]


def symbols(path: Path) -> list[tuple[str, str]]:
    """Letter and name of every symbol of an object file."""
    listed = subprocess.run(["nm", "--demangle", str(path)], capture_output=True, text=True, check=True)
    return re.findall(r"^[0-9a-f ]{16} (\w) (.+)$", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_a_target_defines_its_table_and_nothing_else(path: Path) -> None:
    target = path.name.removeprefix("target_").removesuffix(".cpp.o")
    shared = [f"{letter} {name}" for letter, name in symbols(path) if letter not in LOCAL_OR_UNDEFINED]
    assert shared == [f"T thinwire::{target}::kernels()"]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_a_target_calls_nothing_that_is_not_plain_c(path: Path) -> None:
    called = [name for letter, name in symbols(path) if letter == "U"]
    assert not [name for name in called if "::" in name or "(" in name]


def test_every_target_of_this_architecture_was_looked_at() -> None:
    vectors = {"neon"} if platform.machine() == "aarch64" else {"avx2", "avx512"}
    assert {path.name for path in OBJECTS} == {f"target_{name}.cpp.o" for name in {"scalar"} | vectors}
