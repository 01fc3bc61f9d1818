"""The pool: its options, its limit, what it says of itself, and what it refuses."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import thinwire as tw

MIB = 1 << 20


def figures(pool: tw.HostPool) -> dict[str, Any]:
    return pool.stats().as_dict()


def run(program: str, *options: str) -> str:
    """Runs a program in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("limit", "size"),
    [("64MiB", 64 * MIB), ("0.5 GiB", 512 * MIB), (64 * MIB, 64 * MIB), ("65536K", 64 * MIB)],
)
def test_limits_are_numbers_or_texts(limit, size):
    assert figures(tw.HostPool(limit=limit))["limit"] == size


def test_without_a_limit_the_machine_says_it():
    found = figures(tw.HostPool())
    assert MIB < found["limit"] < 1 << 50
    assert found["limited_by"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "much"}, "limit is 'much'; write a number of bytes, or 512MiB or 4GiB"),
        ({"limit": "-1"}, "limit is '-1'"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": "0GiB"}, "limit is 0"),
        ({"threads": 0}, "threads is 0; pass an integer of 1 or more"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"threads": 1 << 20}, "threads is 1048576"),
        ({"decay_s": -1}, "decay_s is -1; pass seconds"),
        ({"decay_s": float("nan")}, "decay_s is nan"),
        ({"decay_s": float("inf")}, "decay_s is inf"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(tw.InvalidArgument) as caught:
        tw.HostPool(**options)
    assert message in str(caught.value)


def test_a_limit_below_the_working_set_says_what_to_do():
    pool = tw.HostPool(limit="8MiB")
    a = pool.empty(5 * MIB)
    with pytest.raises(tw.PoolExhausted) as caught:
        pool.empty(4 * MIB)
    assert isinstance(caught.value, MemoryError)
    said = str(caught.value)
    for part in ("limit of 8.0 MiB", "5.0 MiB are in use", "4.0 MiB asked for", "larger limit"):
        assert part in said, said
    del a
    assert pool.empty(4 * MIB).nbytes == 4 * MIB  # it goes on


def test_a_limit_holds_for_reserving_too():
    pool = tw.HostPool(limit="8MiB")
    with pytest.raises(tw.PoolExhausted):
        pool.reserve("16MiB")
    pool.reserve("4MiB")
    assert figures(pool)["held"] >= 4 * MIB


def test_memory_is_used_again():
    pool = tw.HostPool(limit="64MiB")
    first = pool.empty(MIB).address
    assert pool.empty(MIB).address == first
    found = figures(pool)
    assert (found["allocations"], found["live"]) == (2, 0)
    assert found["held"] >= MIB


def test_trim_gives_memory_back():
    pool = tw.HostPool(limit="256MiB")
    arrays = [pool.empty(8 * MIB) for _ in range(8)]
    kept = arrays.pop()
    kept.numpy()[:] = 9
    arrays.clear()
    before = figures(pool)["held"]
    assert before >= 64 * MIB
    gone = pool.trim("16MiB")
    after = figures(pool)["held"]
    assert gone == before - after >= 40 * MIB
    pool.trim()
    assert figures(pool)["held"] < 16 * MIB
    assert (kept.numpy() == 9).all()


def test_stats_are_a_table_and_plain_values():
    pool = tw.HostPool(limit="256MiB")
    small, large = pool.empty(1000), pool.empty(65 * MIB)
    stats = pool.stats()
    found = stats.as_dict()
    json.dumps(found)
    assert found["live"] >= small.nbytes + large.nbytes
    assert found["requested"] == small.nbytes + large.nbytes
    assert 0 <= found["waste"] < 0.25
    assert 0 <= found["hit_rate"] <= 1
    assert sum(one["held"] for one in found["tiers"].values()) == found["held"]
    text = str(stats)
    for word in ("limit  ", "256 MiB", "waste", "1 KiB", "larger", "in use"):
        assert word in text, text
    assert str(tw.HostPool(limit="1MiB").stats())  # nothing was allocated


def test_the_shared_pool_is_one():
    assert tw.HostPool.shared() is tw.HostPool.shared()
    a = tw.HostPool.shared().empty(100)
    assert figures(tw.HostPool.shared())["live"] >= 100
    assert a.numpy().shape == (100,)


def test_tiers_have_names():
    a = tw.HostPool(limit="64MiB", huge_pages=False).empty(MIB)
    assert a.tier in ("plain", "registered")
    assert tw.HostPool(limit="64MiB").empty(MIB).tier in ("plain", "huge", "mlocked", "registered")


def test_locked_memory_without_the_right_to_it_is_the_next_tier_and_says_why():
    said = run(
        """
        import logging, resource, sys
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
        import thinwire as tw
        pool = tw.HostPool(limit="64MiB", lock=True, register_with_cuda=False)
        a, b = pool.empty(1000), pool.empty(1 << 20)
        assert a.tier in ("plain", "huge"), a.tier
        a.numpy()[:] = 1
        print(pool.stats().as_dict()["reasons"])
        """
    )
    logged, reasons = said.splitlines()
    assert logged.startswith("thinwire.pool ")
    assert "RLIMIT_MEMLOCK" in logged
    assert logged.removeprefix("thinwire.pool ") in reasons


def test_nothing_is_logged_where_nothing_is_amiss(caplog):
    with caplog.at_level(logging.DEBUG, "thinwire"):
        pool = tw.HostPool(limit="64MiB", register_with_cuda=False)
        pool.empty(MIB)
        pool.reserve(MIB)
    assert not caplog.records


def test_random_histories_keep_what_was_written():
    """Arrays of random sizes live for random times; none changes what another holds."""
    random = np.random.default_rng(0)
    pool = tw.HostPool(limit="512MiB")
    held: list[tuple[Any, int]] = []
    for step in range(1500):
        if held and random.random() < 0.48:
            a, number = held.pop(random.integers(len(held)))
            x = a.numpy()
            assert (x[:8] == number).all()
            assert (x[-8:] == number).all()
        else:
            a = pool.empty(int(2 ** random.uniform(3, 21)))
            a.numpy()[:] = step % 251
            held.append((a, step % 251))
    found = figures(pool)
    assert found["live"] >= sum(a.nbytes for a, _ in held)
    held.clear()
    del a, x
    assert figures(pool)["live"] == 0
