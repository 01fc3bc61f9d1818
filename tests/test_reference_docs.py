"""The worked examples in docs/wire are what the reference computes."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from thinwire.reference import CODECS

FOLDER = Path(__file__).parent.parent / "docs" / "wire"
PAGES = [*CODECS, "basis", "chunking", "frame", "windows", "handshake", "conventions"]


def test_every_codec_has_a_page_and_every_page_a_test():
    assert {path.stem for path in FOLDER.glob("*.md")} - {"index"} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_worked_example_is_right(page):
    text = (FOLDER / f"{page}.md").read_text()
    (example,) = re.findall(r"^## Worked example\n.*?^```pycon\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    case = doctest.DocTestParser().get_doctest(example, {}, page, f"{page}.md", 0)
    report: list[str] = []
    assert doctest.DocTestRunner().run(case, out=report.append).failed == 0, "".join(report)
    assert len(case.examples) > 3


@pytest.mark.parametrize(("name", "codec"), CODECS.items())
def test_a_page_names_its_wire_id(name, codec):
    assert f"# {name} (id {codec.WIRE_ID})" in (FOLDER / f"{name}.md").read_text()
