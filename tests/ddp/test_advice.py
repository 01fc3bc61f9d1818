"""The model behind the report's verdict and bucket size."""

from __future__ import annotations

import pytest

from thinwire._advice import MIB, OVERHEAD_SECONDS, best_bucket_cap, buckets_of, exposed_seconds
from thinwire.ddp.report import Metrics, Report


def test_one_bucket_is_reduced_after_backward() -> None:
    assert exposed_seconds([8e6], 0.1, 1e-8) == pytest.approx(0.08 + OVERHEAD_SECONDS)


def test_a_fast_link_leaves_only_the_last_bucket() -> None:
    waited = exposed_seconds([1e6] * 10, 1.0, 1e-9)
    assert waited == pytest.approx(1e-3 + OVERHEAD_SECONDS)


def test_a_slow_link_is_busy_from_the_first_bucket_on() -> None:
    waited = exposed_seconds([1e6] * 10, 0.1, 1e-7)
    assert waited == pytest.approx(0.01 + 1.0 + 10 * OVERHEAD_SECONDS - 0.1)


@pytest.mark.parametrize("total", [0.5 * MIB, MIB, 13 * MIB, 100 * MIB])
@pytest.mark.parametrize("cap", [1, 4, 25])
def test_buckets_add_up(total: float, cap: int) -> None:
    sizes = buckets_of(total, cap)
    assert sum(sizes) == total
    assert max(sizes) <= cap * MIB


def test_small_buckets_are_better_when_a_large_one_comes_last() -> None:
    cap, waited = best_bucket_cap(13 * MIB, 0.1, 3e-9)
    assert cap < 8
    assert waited < exposed_seconds(buckets_of(13 * MIB, 25), 0.1, 3e-9)


def test_a_report_without_steps() -> None:
    other = {"residual_bytes": 0, "basis_bytes": 0, "buffer_bytes": 0, "ways": {}}
    values = {"codec": "int8", "world_size": 2, **other, **Metrics().summary()}
    assert "too little was measured" in str(Report(values))
    assert values["recommended_bucket_cap_mb"] is None


def test_a_report_names_a_better_bucket_size() -> None:
    metrics = Metrics()
    metrics.steps, metrics.bucket_bytes = 10, [MIB, 12 * MIB]
    metrics.plain_bytes, metrics.phase_1.sent_bytes = 10 * 13 * MIB, 10 * 13 * MIB // 4
    metrics.wire.seconds = metrics.sent_bytes / 12.5e6  # 100 Mbit/s
    metrics.step_seconds, metrics.backward_seconds, metrics.waiting_seconds = 4.0, 1.0, 2.5
    values = metrics.summary()
    assert values["bytes_per_second"] == pytest.approx(12.5e6)
    assert values["plain_waiting"] == pytest.approx(13 * MIB / 12.5e6, rel=0.2)
    assert values["pays"] is True
    assert values["recommended_bucket_cap_mb"] in (1, 2, 4)
