"""docs/accuracy.md says what the results say, and promises what the hook promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from thinwire.bench import _ddp_gaps
from thinwire.ddp.accuracy import PROMISES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
RESULTS = ROOT / "bench" / "results" / "ddp-gaps.json"
RESULTS_600 = ROOT / "bench" / "results" / "ddp-gaps-600.json"

pytestmark = pytest.mark.skipif(not PAGE.exists() or not RESULTS.exists(), reason="needs the source tree")


def _summary(path: Path = RESULTS) -> list[dict[str, Any]]:
    return _ddp_gaps.summarise(json.loads(path.read_text())["runs"])


def test_the_table_is_that_of_the_results() -> None:
    assert f"```text\n{_ddp_gaps.format_tables(_summary())}\n```" in PAGE.read_text()


def test_the_page_names_the_cpus() -> None:
    assert _ddp_gaps.format_cpus(json.loads(RESULTS.read_text())["runs"]) in PAGE.read_text()


def test_promises_are_the_hooks() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) % \|", PAGE.read_text(), re.MULTILINE)
    assert [(codec, float(gap)) for codec, gap in rows] == [(p.codec, p.gap_percent) for p in PROMISES]


def test_promises_are_kept_by_the_results() -> None:
    """Every codec that was measured, with its default policy."""
    promised = {f"thinwire/{promise.codec}": promise.gap_percent for promise in PROMISES}
    promised["thinwire/topk:density=0.03,values=sign"] = promised["thinwire/topk"]
    measured = [e for path in (RESULTS, RESULTS_600) for e in _summary(path) if e["method"] in promised]
    assert {entry["method"] for entry in measured} >= {"thinwire/sign1", "thinwire/int2", "thinwire/int4"}
    for entry in measured:
        gap = entry["gap_percent"]["mean"]
        assert gap <= promised[entry["method"]], (entry["method"], entry["model"], entry["optimizer"])
