"""`thinwire bench pool`: what rounding wastes on a recorded trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinwire import _core
from thinwire._sizes import format_size
from thinwire.bench import _report
from thinwire.bench._pool_trace import Trace, load

BAR = 0.15
LIMIT = 16 << 30


@dataclass(frozen=True)
class Waste:
    """Bytes that one workload asked for and got.

    `given`: of all blocks that were handed out; `requested`: of what was wanted of them. `held`: the most
    that was ever taken from the system; `needed`: the most that was in use at once.
    """

    requested: int
    given: int
    needed: int
    held: int

    @property
    def rounding(self) -> float:
        """The share of the bytes given that nobody had asked for."""
        return 1 - self.requested / self.given


def in_pool(trace: Trace) -> Waste:
    """What a pool gives and takes from the system."""
    pool = _core.HostPool(limit=LIMIT)
    addresses, given = [], 0
    for block, size in trace.steps():
        if size:
            addresses.append(pool.allocate(size))
            given += pool.usable(addresses[-1])
        else:
            pool.free(addresses[block])
    return Waste(sum(trace.sizes), given, needed(trace), pool.stats()["peak_held"])


def in_powers_of_two(trace: Trace) -> Waste:
    """What an allocator gives that rounds up to powers of two and keeps what comes back, as torch's for
    pinned memory does: a block serves its own size again, and no other."""
    sizes, unused, held = trace.sizes, dict[int, int](), 0
    for block, size in trace.steps():
        rounded = power_of_two(sizes[block])
        if not size:
            unused[rounded] = unused.get(rounded, 0) + 1
        elif unused.get(rounded):
            unused[rounded] -= 1
        else:
            held += rounded
    return Waste(sum(sizes), sum(map(power_of_two, sizes)), needed(trace), held)


def power_of_two(size: int) -> int:
    """The least that holds `size` bytes."""
    return 1 << (size - 1).bit_length()


def needed(trace: Trace) -> int:
    """The most bytes in use at once."""
    sizes, used, most = trace.sizes, 0, 0
    for block, size in trace.steps():
        used += size or -sizes[block]
        most = max(most, used)
    return most


def measure() -> list[dict[str, Any]]:
    """One row a workload, and one for all of them together, which is what the bar is for."""
    traces = load()
    pairs = [(in_pool(trace), in_powers_of_two(trace)) for trace in traces]
    rows = [row(trace.name, len(trace.sizes), *pair) for trace, pair in zip(traces, pairs, strict=True)]
    count = sum(len(trace.sizes) for trace in traces)
    everything = row("all", count, *(total(side) for side in zip(*pairs, strict=True)))
    return [*rows, everything | {"bar": BAR, "met": everything["waste"] <= BAR}]


def total(each: tuple[Waste, ...]) -> Waste:
    """One workload after the other, each with an allocator of its own."""
    fields = zip(*((w.requested, w.given, w.needed, w.held) for w in each), strict=True)
    return Waste(*map(sum, fields))


def row(name: str, blocks: int, own: Waste, rounded: Waste) -> dict[str, Any]:
    """A row, ready for JSON: shares of what was given, and bytes."""
    return {
        "workload": name,
        "blocks": blocks,
        "waste": own.rounding,
        "power_of_two_waste": rounded.rounding,
        "needed_bytes": own.needed,
        "held_bytes": own.held,
        "power_of_two_held_bytes": rounded.held,
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    header = ["workload", "blocks", "waste", "of 2^n", "most in use", "held", "held, 2^n", "bar", ""]
    cells = []
    for each in rows:
        shares = (f"{each[key]:.1%}" for key in ("waste", "power_of_two_waste"))
        sizes = (format_size(each[key]) for key in ("needed_bytes", "held_bytes", "power_of_two_held_bytes"))
        bar = f"at most {each['bar']:.0%}" if "bar" in each else ""
        verdict = _report.verdict(each.get("met"))
        cells.append([each["workload"], each["blocks"], *shares, *sizes, bar, verdict])
    text: str = _report.table(header, cells)
    return text
