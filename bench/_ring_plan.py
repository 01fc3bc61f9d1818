"""What `bench ring` measures: methods, sizes and effort, as its processes tell each other. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thinwire.bench import _report

GLOO = "gloo"
CODECS = ("raw", "int8", "int4")
KIB, MIB = 1 << 10, 1 << 20
SIZES = (4 * KIB, 64 * KIB, MIB, 16 * MIB, 100 * 10**6)
FULL_SIZES = (*SIZES, 256 * MIB)

CALLS_LIMIT = 50
"""Calls in one sample at most."""
SAMPLE_SECONDS = 0.02
"""What a sample of short calls should last, so that the clock and the barrier before it do not matter."""


@dataclass(frozen=True)
class Effort:
    """How many rounds a size gets: as many as fit into `seconds`, within the limits."""

    seconds: float
    least: int
    most: int

    def rounds(self, round_seconds: float) -> int:
        """How many rounds to run, where one lasts `round_seconds`."""
        return max(self.least, min(self.most, int(self.seconds / max(round_seconds, 1e-9))))


FULL = Effort(seconds=8.0, least=5, most=41)
QUICK = Effort(seconds=1.0, least=3, most=11)


def calls_for(call_seconds: float) -> int:
    """How many calls make one sample, where a call lasts `call_seconds`."""
    return max(1, min(CALLS_LIMIT, int(SAMPLE_SECONDS / max(call_seconds, 1e-9))))


def payload_bytes(size: int, ranks: int) -> float:
    """The fewest bytes of fp32 that each rank must send in an all-reduce of `size` bytes."""
    return 2 * (ranks - 1) / ranks * size


def split(method: str) -> tuple[str, str, str]:
    """`(library, link, codec)` of a method's name: `gloo`, `tcp/int8`, `shm/raw`, `mpi/shm`."""
    first, _, second = method.partition("/")
    if first == GLOO:
        return "Gloo", "tcp", "raw"
    if first == "mpi":
        return "Open MPI", second, "raw"
    return "thinwire", first, second


def label(method: str) -> str:
    """A method's name for tables and pictures."""
    library, link, codec = split(method)
    return f"{library} {codec}, {link}" if library == "thinwire" else f"{library}, {link}"


def format_size(size: int) -> str:
    """`64 KiB`, `100 MB`: in the unit in which it is a whole number."""
    for unit, count in (("MiB", MIB), ("KiB", KIB), ("MB", 10**6)):
        if size >= count and size % count == 0:
            return f"{size // count} {unit}"
    return f"{size} B"


def row(
    place: dict[str, Any],
    size: int,
    method: str,
    seconds: Sequence[float],
    gloo_seconds: Sequence[float],
    **more: Any,
) -> dict[str, Any]:
    """One measured method, ready for JSON. The ratio is to Gloo's samples of the same rounds."""
    library, link, codec = split(method)
    ratios = [gloo / own for gloo, own in zip(gloo_seconds, seconds, strict=True)] if gloo_seconds else []
    busy = payload_bytes(size, place["ranks"]) * 8 / place["rate_bits"] if place["rate_bits"] else None
    of_link = [busy / own for own in seconds] if busy and codec == "raw" else []
    return {
        "method": method,
        "library": library,
        "link": link,
        "codec": codec,
        "bytes": size,
        "seconds": _report.spread(seconds).as_dict(),
        "times_gloo": _report.spread(ratios).as_dict() if ratios else None,
        "of_link": _report.spread(of_link).as_dict() if of_link else None,
        **more,
    }
