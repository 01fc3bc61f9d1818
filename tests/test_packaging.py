"""The two commands' preparations, and facts that are stated in more than one file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import thinwire as tw

ROOT = Path(__file__).parent.parent
NEEDS = ROOT / "scripts" / "needs.sh"

pytestmark = pytest.mark.skipif(not NEEDS.exists(), reason="needs the source tree")


def needs(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(
        ["/bin/sh", str(NEEDS)], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with a shell's tools and nothing to build with."""
    for tool in ("id", "sh"):
        found = shutil.which(tool)
        assert found
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def test_needs_prints_the_python_where_all_is_there() -> None:
    done = needs()
    assert (done.returncode, done.stdout) == (0, f"{sys.executable}\n"), done.stderr


def test_needs_names_what_lacks_and_how_to_install_it(bare_path: Path) -> None:
    done = needs(PATH=str(bare_path), PYTHON="", CXX="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install python3 python3-venv python3-dev g++ make" in done.stderr
    assert "dnf install python3.12 python3.12-devel gcc-c++ make" in done.stderr


def test_needs_prints_the_line_of_this_machines_package_manager(bare_path: Path) -> None:
    (bare_path / "dnf").symlink_to("/bin/true")
    done = needs(PATH=str(bare_path))
    assert "dnf install gcc-c++ make" in done.stderr
    assert "apt-get" not in done.stderr


def test_needs_refuses_an_old_compiler(tmp_path: Path) -> None:
    old = tmp_path / "c++"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = needs(CXX=str(old))
    assert done.returncode == 1
    assert f"missing: C++20 in {old}" in done.stderr


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/environment.py, looking at a small copy of the tree."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt", "CMakeLists.txt", "python/thinwire/_version.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for variable in module.BUILD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return module


def test_fingerprint_changes_with_whatever_matters(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {environment.fingerprint("test")}
    assert environment.fingerprint("test") in seen

    def is_new() -> bool:
        before = len(seen)
        seen.add(environment.fingerprint("test"))
        return len(seen) > before

    tree = environment.ROOT
    module = tree / "python" / "thinwire" / "new.py"
    module.write_text("x = 1\n")
    assert is_new()
    module.write_text("x = 2\n")
    assert not is_new()
    (tree / "csrc").mkdir()
    (tree / "csrc" / "new.cpp").write_text("int x;\n")
    assert is_new()
    monkeypatch.setenv("TORCH", "torch==2.12.1")
    assert is_new()
    monkeypatch.setenv("THINWIRE_CUDA", "ON")
    assert is_new()
    assert environment.fingerprint("demo") not in seen


@pytest.mark.parametrize(
    ("version", "suits"), [("2.4.0", True), ("2.13.0+cpu", True), ("3.0.0", True), ("2.3.1+cu121", False)]
)
def test_the_callers_torch_is_used_where_it_suits(
    environment: ModuleType, version: str, suits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert environment.suitable_torch() == (version if suits else None)
    monkeypatch.setenv("TORCH", "torch==2.12.1")
    assert environment.suitable_torch() is None


def test_requirements_of_make_are_pinned(environment: ModuleType) -> None:
    pins = {
        line.partition("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    tools = {tool for purpose in environment.PURPOSES.values() for tool in purpose.tools}
    wanted = {
        "torch",
        *environment.BUILD_TOOLS,
        *(tool for tool in tools if re.fullmatch(r"[a-z0-9-]+\w", tool)),
    }
    assert wanted - {"--requirement"} <= pins


def test_one_version_everywhere() -> None:
    assert tw.__version__ == importlib.metadata.version("thinwire")
    assert f"\n## {tw.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_package_needs_numpy_alone() -> None:
    always = [line for line in importlib.metadata.requires("thinwire") or [] if "extra ==" not in line]
    assert [re.split(r"[<>=!~ ]", line)[0] for line in always] == ["numpy"]


def test_no_extra_pulls_a_torch_older_than_the_floor() -> None:
    ranges = {line.partition(";")[0].strip() for line in importlib.metadata.requires("thinwire") or []}
    assert len({each for each in ranges if re.match(r"torch\b", each)}) == 1
