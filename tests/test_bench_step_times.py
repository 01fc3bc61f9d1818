"""`thinwire bench ddp`: the tables of step times."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from thinwire.bench import _ddp_steps as steps
from thinwire.bench._ddp_plan import check_method
from thinwire.cli._shaped import Link

BUCKETS = (None, 4.0)


def figures(rate_bits: int = steps.GOAL_RATE, **more: tuple[float, float]) -> dict[str, Any]:
    """What becomes of steps that took so many seconds: with default buckets, and with those of 4 MB."""
    seconds = {"torch/plain": (1.2, 1.0), "thinwire/int4": (0.4, 0.25), **more}
    samples: dict[tuple[str, float | None], dict[str, Any]] = {
        (method, bucket): {"step_s": [time], "wire_bytes_per_step": 2e6, "hook": None}
        for method, times in seconds.items()
        for bucket, time in zip(BUCKETS, times, strict=True)
    }
    return steps._summarise(Link("namespaces", rate_bits), list(seconds), samples)


def row(text: str, start: str) -> str:
    """The last line that begins so, with single spaces."""
    return " ".join([line for line in text.splitlines() if line.startswith(start)][-1].split())


def test_times_are_beside_plain_ddps() -> None:
    text = steps.format_tables(figures(rate_bits=10**9))
    assert row(text, "thinwire") == "thinwire int4 400 ms 250 ms 4 MB 3.00 x 4.00 x 2.00 MB"
    assert "goal" not in text
    assert "basis" not in text


def test_goals_are_against_plain_ddp_at_its_best() -> None:
    assert row(steps.format_tables(figures()), "int4") == "int4 5.3 x 2.50 x 4.00 x"


def test_a_basis_is_beside_the_codec_without() -> None:
    without = {"thinwire/sign1;basis=0": (0.20, 0.125)}
    text = steps.format_tables(figures(**{"thinwire/sign1": (0.21, 0.15)}, **without))
    assert row(text, "sign1") == "sign1 1.05 x 1.05 x 1.20 x"
    assert "1.05 x" not in steps.format_tables(figures(**without))


def test_what_is_measured_are_methods() -> None:
    assert {*steps.GOALS, *steps.BASIS_GOAL[:2]} <= set(steps.CODECS)
    for method in (*steps.BASELINES, *(f"thinwire/{codec}" for codec in steps.CODECS)):
        check_method(method)
