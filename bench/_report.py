"""What every benchmark's report shares: the machine, robust statistics, a plain table, a JSON file."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("thinwire", "torch", "numpy", "matplotlib")


def machine() -> dict[str, Any]:
    """The machine and the versions a figure belongs to, ready for JSON; what is not installed is None."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "targets": _cpu_targets(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def describe(facts: dict[str, Any]) -> str:
    """One line from `machine()` for the head of a table."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['kernel']}, Python {facts['python']}, {versions}"


def cpu_model() -> str:
    """As its maker calls it, or the architecture where the system does not say."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_targets() -> list[str]:
    import thinwire  # only here: the statistics below serve without the native module

    return list(thinwire.targets())


@dataclass(frozen=True)
class Spread:
    """A sample's median and the quarter marks around it."""

    median: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float]:
        """The four fields, ready for JSON."""
        return {"median": self.median, "low": self.low, "high": self.high, "count": self.count}


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles of at least one sample; ValueError on none."""
    if not samples:
        raise ValueError("no samples: a spread needs at least one")
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high, len(samples))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Text columns under a header: the first flush left, the others flush right; cells by `str`."""
    from thinwire._table import columns  # as above

    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    dashes = ["-" * max(map(len, column)) for column in zip(*cells, strict=True)]
    made: str = columns([cells[0], dashes, *cells[1:]])
    return made


def verdict(met: bool | None) -> str:
    """The last cell of a row with a bar; None where there is none, or nothing was measured."""
    return {True: "met", False: "MISSED", None: ""}[met]


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, NaN and infinity as null; the file appears whole or not at all."""
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")
    partial.replace(target)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
