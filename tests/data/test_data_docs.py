"""The programs on the pages about data run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "data"

pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="needs the source tree")


@pytest.mark.parametrize("name", ["index", "reading"])
def test_the_python_blocks_of_a_page_are_a_program(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    page, program = PAGES / f"{name}.md", tmp_path / f"{name}.py"
    program.write_text(
        "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    )
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program))
