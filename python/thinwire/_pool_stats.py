"""What a pool has done and holds, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thinwire._sizes import format_size
from thinwire._table import columns

_CLASS_HEAD = ("blocks of", "allocations", "in use", "unused", "peak")
_TRIALS = {"huge_bytes_per_s": "in huge pages", "plain_bytes_per_s": "in plain ones"}


@dataclass(frozen=True)
class PoolStats:
    """What a pool holds and has done. `str()` is a table, `as_dict()` plain values."""

    values: dict[str, Any]

    @property
    def waste(self) -> float:
        """The share of the bytes given, over all allocations, that nobody had asked for."""
        given = self.values["given"]
        return 1 - self.values["requested"] / given if given else 0.0

    @property
    def hit_rate(self) -> float:
        """The share of allocations that a thread's own magazine served, without any lock."""
        count = self.values["allocations"]
        return 1 - self.values["misses"] / count if count else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the values: bytes, counts, nanoseconds where the name ends in _ns, else seconds."""
        return {**self.values, "waste": self.waste, "hit_rate": self.hit_rate}

    def __str__(self) -> str:
        parts = [columns(self._lines(), left=(0, 1))]
        if self.values["classes"]:
            parts.append(columns([_CLASS_HEAD, *self._classes()], left=()))
        return "\n\n".join(parts)

    def _lines(self) -> list[tuple[str, str]]:
        v = self.values
        tiers = [f"{format_size(held)} {tier}" for tier, held in _held_by_tier(v["tiers"]).items()]
        lines = [
            ("limit", f"{format_size(v['limit'])} ({v['limited_by']})"),
            ("held", f"{format_size(v['held'])}, at most {format_size(v['peak_held'])}"),
            ("of tier", ", ".join(tiers) or "none"),
            ("in use", f"{format_size(v['live'])}, at most {format_size(v['peak_live'])}"),
            ("waste", f"{self.waste:.1%} of the bytes given"),
            ("allocations", f"{v['allocations']}, {self.hit_rate:.1%} from the thread's own magazine"),
            ("frees", f"{v['local_frees']} by the thread that allocated, {v['remote_frees']} by another"),
        ]
        if v["latency_samples"]:
            lines.append(
                ("latency", f"median {v['latency_p50_ns']:.0f} ns, 99 % below {v['latency_p99_ns']:.0f} ns")
            )
        if v["deferred_frees"]:
            lines.append(("ordered frees", f"{v['deferred_frees']}, {v['deferred_waiting']} still wait"))
        tried = [f"{v[key] / 1e9:.1f} GB/s {pages}" for key, pages in _TRIALS.items() if v[key]]
        if tried:
            lines.append(("first use", ", ".join(tried)))
        return [*lines, *(("note", reason) for reason in v["reasons"])]

    def _classes(self) -> list[list[str]]:
        return [
            [
                format_size(size) if size else "larger",
                str(one["allocations"]),
                *(format_size(one[key]) for key in ("live", "cached", "peak")),
            ]
            for size, one in self.values["classes"].items()
        ]


def _held_by_tier(tiers: dict[str, dict[str, int]]) -> dict[str, int]:
    """The tiers that hold anything, the best first."""
    return {tier: one["held"] for tier, one in reversed(tiers.items()) if one["held"]}


__all__ = ["PoolStats"]
