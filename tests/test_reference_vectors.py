"""The committed test vectors are those that the reference makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinwire.reference import CODECS
from vectors import make

HERE = Path(make.__file__).parent


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return make.files()


@pytest.mark.parametrize(
    "file", [f"{name}.json" for name in CODECS] + ["cuts.json", "frame.json", "permutation.json"]
)
def test_regeneration_changes_nothing(made, file):
    assert (HERE / file).read_text() == made[file], "run tests/vectors/make.py and look at what changed"


def test_no_file_is_left_over(made):
    assert {path.name for path in HERE.glob("*.json")} == set(made)
