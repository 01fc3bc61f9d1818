"""`thinwire bench pool`: how long an allocation takes, and the first use of much memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import thinwire as tw
from thinwire import _core
from thinwire._sizes import format_size
from thinwire.bench import _report

PAIR_BAR_NS, REMOTE_BAR_NS = 40.0, 80.0
BARRED_BYTES = (4 << 10, 4 << 20)  # the bars are for pairs from this size to that
FIRST_USE_BAR = 1.6
PAIR_SIZES = (64, 4 << 10, 64 << 10, 1 << 20, 4 << 20)
ARRAY_SIZES = (4 << 10, 256 << 10, 4 << 20, 64 << 20)
POOL_LIMIT = 2 << 30
PAGE = 4096

Maker = Callable[[int], Any]
"""Makes an array of so many bytes that can be sliced and written."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    pairs: int  # a round
    arrays: int  # a round
    first_use_bytes: int


FULL = Effort(rounds=9, pairs=200_000, arrays=200, first_use_bytes=2 << 30)
QUICK = Effort(rounds=3, pairs=50_000, arrays=50, first_use_bytes=512 << 20)


def measure_pairs(effort: Effort) -> list[dict[str, Any]]:
    """Allocate and free in C++: by one thread, and by two, of which one allocates and the other frees."""
    pool = _core.HostPool(limit=POOL_LIMIT)
    rows = []
    for size in PAIR_SIZES:
        samples: dict[str, list[float]] = {"one_thread_ns": [], "two_threads_ns": []}
        for _ in range(effort.rounds + 1):
            samples["one_thread_ns"].append(1e9 * _core.time_pool_pairs(pool, size, effort.pairs))
            samples["two_threads_ns"].append(1e9 * _core.time_pool_remote_pairs(pool, size, effort.pairs))
        rows.append(pair_row(size, {name: values[1:] for name, values in samples.items()}))
    return rows


def pair_row(size: int, samples: dict[str, list[float]]) -> dict[str, Any]:
    """A row, ready for JSON."""
    row: dict[str, Any] = {"bytes": size, "bar_ns": None, "met": None}
    spreads = {name: _report.spread(values) for name, values in samples.items()}
    if BARRED_BYTES[0] <= size <= BARRED_BYTES[1]:
        one, two = (spreads[name].median for name in ("one_thread_ns", "two_threads_ns"))
        row["bar_ns"] = [PAIR_BAR_NS, REMOTE_BAR_NS]
        row["met"] = one <= PAIR_BAR_NS and two <= REMOTE_BAR_NS
    return row | {name: each.as_dict() for name, each in spreads.items()}


def format_pairs(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    header = ["allocate + free, C++", "one thread", "quartiles", "two threads", "quartiles", "bar", ""]
    cells = []
    for row in rows:
        bar = "at most {:g}, {:g} ns".format(*row["bar_ns"]) if row["bar_ns"] else ""
        times = [text for name in ("one_thread_ns", "two_threads_ns") for text in _nanoseconds(row[name])]
        cells.append([format_size(row["bytes"]), *times, bar, _report.verdict(row["met"])])
    text: str = _report.table(header, cells)
    return text


def _nanoseconds(spread: dict[str, float]) -> list[str]:
    return [f"{spread['median']:.1f} ns", f"{spread['low']:.1f}-{spread['high']:.1f}"]


def measure_arrays(effort: Effort) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """An array from Python: take it, touch its pages, drop it. Rows, and why some columns are missing."""
    pool = tw.HostPool(limit=POOL_LIMIT)
    makers: dict[str, Maker] = {
        "HostPool": lambda size: pool.empty(size).numpy(),
        "np.empty": lambda size: np.empty(size, np.uint8),
    }
    on_gpu, left_out = gpu_makers()
    makers |= on_gpu
    rows = []
    for size in ARRAY_SIZES:
        samples: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(effort.rounds + 1):
            for name, make in makers.items():
                samples[name].append(1e6 * array_seconds(make, size, effort.arrays))
        spreads = {name: _report.spread(values[1:]).as_dict() for name, values in samples.items()}
        rows.append({"bytes": size, "microseconds": spreads})
    return rows, left_out


def gpu_makers() -> tuple[dict[str, Maker], dict[str, str]]:
    """Today's pools of pinned memory, and why one cannot be measured."""
    makers: dict[str, Maker] = {}
    left_out = {}
    names = {"torch": "torch, pinned", "cupy": "CuPy, pinned"}
    for module, make in (("torch", _torch_pinned), ("cupy", _cupy_pinned)):
        if find_spec(module) is None:
            left_out[names[module]] = f"{module} is not installed"
        elif (maker := make()) is None:
            left_out[names[module]] = "no GPU"
        else:
            makers[names[module]] = maker
    return makers, left_out


def _torch_pinned() -> Maker | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return partial(torch.empty, dtype=torch.uint8, pin_memory=True)


def _cupy_pinned() -> Maker | None:
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        return None
    pool = cupy.cuda.PinnedMemoryPool()
    return lambda size: np.frombuffer(pool.malloc(size), np.uint8, size)


def array_seconds(make: Maker, size: int, count: int) -> float:
    """How long one array takes: to make it, to write to each of its pages, to drop it."""
    start = time.perf_counter()
    for _ in range(count):
        make(size)[::PAGE] = 1
    return (time.perf_counter() - start) / count


def format_arrays(rows: list[dict[str, Any]]) -> str:
    """The rows as text; times in microseconds, and how many times faster the pool is than NumPy."""
    names = list(rows[0]["microseconds"])
    header = ["an array, pages touched", *names, "x np.empty"]
    cells = []
    for row in rows:
        medians = {name: row["microseconds"][name]["median"] for name in names}
        ratio = medians["np.empty"] / medians["HostPool"]
        cells.append(
            [format_size(row["bytes"]), *(f"{medians[name]:.2f} us" for name in names), f"{ratio:.2f}"]
        )
    text: str = _report.table(header, cells)
    return text


def measure_first_use(effort: Effort) -> dict[str, Any]:
    """New memory from the system: touched in parallel by the pool, by one thread, and by NumPy."""
    size = effort.first_use_bytes
    ways = {
        "HostPool.reserve": partial(_core.time_pool_reserve, size),
        "one thread, C++": partial(_core.time_touch, size),
        "np.empty, touched": partial(array_seconds, partial(np.empty, dtype=np.uint8), size, 1),
    }
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(effort.rounds):
        for name, way in ways.items():
            samples[name].append(way())
    pairs = zip(samples["one thread, C++"], samples["HostPool.reserve"], strict=True)
    ratio = _report.spread([base / own for base, own in pairs])
    seconds = {name: _report.spread(values).as_dict() for name, values in samples.items()}
    met = ratio.median >= FIRST_USE_BAR
    return {"bytes": size, "seconds": seconds, "ratio": ratio.as_dict(), "bar": FIRST_USE_BAR, "met": met}


def format_first_use(row: dict[str, Any]) -> str:
    """The figures as text."""
    header = [f"first use of {format_size(row['bytes'])}", "time", "rate", "ratio", "quartiles", "bar", ""]
    cells = []
    for name, spread in row["seconds"].items():
        rate = row["bytes"] / spread["median"] / 1e9
        cells.append([name, f"{spread['median'] * 1e3:.0f} ms", f"{rate:.2f} GB/s", "", "", "", ""])
    ratio = row["ratio"]
    cells[0][3:] = [
        f"{ratio['median']:.2f}",
        f"{ratio['low']:.2f}-{ratio['high']:.2f}",
        f"{row['bar']:g}",
        _report.verdict(row["met"]),
    ]
    text: str = _report.table(header, cells)
    return text
