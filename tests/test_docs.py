"""What the pages say is so: programs run, links lead somewhere, commands, tables and names exist."""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinwire.cli.main import make_parser

ROOT = Path(__file__).parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md")), ROOT / "bench" / "README.md"]

pytestmark = pytest.mark.skipif(not README.exists(), reason="needs the source tree")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> str:
    """The page's code blocks of one language, each line at its own place; the other lines are empty."""
    kept, opened = [], ""
    for line in page.read_text().splitlines():
        fence = re.match(r"\s*```(\S*)", line)
        if fence:
            opened = "" if opened else fence[1] or "plain"
        kept.append(line if opened == language and not fence else "")
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=["README.md", "quickstart.md"])
def test_the_python_blocks_of_a_page_are_a_program(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = tmp_path / f"{page.stem}.py"
    program.write_text(blocks(page, "python"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    variables = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program)],
            env={**os.environ, **variables, "RANK": str(rank)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=60)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    assert "verdict" in said[0]  # the report


def test_the_python_blocks_about_samplers_are_a_program(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = tmp_path / "samplers.py"
    program.write_text(blocks(DOCS / "data" / "samplers.md", "python"))
    variables = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    environment = {**os.environ, **variables, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(program)], env=environment, cwd=tmp_path, timeout=60)
    assert done.returncode == 0


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def commands(page: Path) -> Iterator[list[str]]:
    """The command lines of the page's shell blocks."""
    for line in blocks(page, "sh").replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


@every_page
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if Path(words[0]).name == "thinwire":
            make_parser().parse_args(words[1:])  # exits where it does not understand
        elif words[0] == "make":
            assert words[1] in targets, words


def test_the_codec_table_is_the_registrys() -> None:
    table = runpy.run_path(str(DOCS / "conf.py"))["codec_table"]()
    assert table.replace("](wire/", "](docs/wire/") in README.read_text()


def test_every_variable_has_its_line() -> None:
    read = re.findall(r'variable\("(\w+)"\)', (ROOT / "csrc" / "core" / "env.cpp").read_text())
    read += re.findall(r'env = "(\w+)"', (ROOT / "pyproject.toml").read_text())
    for path in (ROOT / "python").rglob("*.py"):
        read += re.findall(r'environ\S*"(THINWIRE_\w+)"', path.read_text())
    listed = re.findall(r"^\| `(THINWIRE_\w+)` ", (DOCS / "environment.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(set(read))


def test_every_option_has_its_line() -> None:
    pytest.importorskip("torch")
    from thinwire.ddp import Options

    listed = re.findall(r"^\| `(\w+)` \| ", (DOCS / "choosing-a-codec.md").read_text(), re.MULTILINE)
    missing = {field.name for field in dataclasses.fields(Options)} - {"codec", *listed}
    assert not missing
