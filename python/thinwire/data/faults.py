"""Records that cannot be read: the error that says which and why, and whether it is raised or counted."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from thinwire._table import columns
from thinwire.data.layout import Place
from thinwire.errors import CorruptRecord, InvalidArgument

Policy = Literal["raise", "skip"]

CUT_OFF, CHANGED, TOO_LARGE = -1, -2, -3
"""What became of a record, beside 0 (fine) and errno; the first two are the native reader's."""

_MOST_NAMED = 1000
_SHOWN = 10

_REASONS = {
    CUT_OFF: "the file ends inside it: it was truncated after it was written or opened",
    CHANGED: "its checksum is wrong: the file was damaged or changed",
    TOO_LARGE: "it is larger than max_record_bytes",
}


def error_of(code: int, place: Place) -> CorruptRecord | OSError:
    """The error of one record: an OSError of the class that fits errno, otherwise CorruptRecord."""
    if code > 0:
        return OSError(
            code, f"{os.strerror(code)} (record {place.record} at byte {place.offset})", place.file
        )
    return corrupt(place, _REASONS[code])


def corrupt(place: Place, reason: str) -> CorruptRecord:
    """The error of a record that was read, or would have been, and cannot be used."""
    return CorruptRecord(f"{place}: {reason}", place.file, place.offset, place.record)


@dataclass
class Faults:
    """What went wrong: with "raise" it is raised at once, with "skip" counted, and the first 1000 named."""

    policy: Policy = "raise"
    count: int = 0
    named: list[str] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.policy not in ("raise", "skip"):
            raise InvalidArgument(f'faults is {self.policy!r}; pass "raise" or "skip"')

    def add(self, error: Exception, cause: BaseException | None = None) -> None:
        """Raise the error, or count it."""
        if self.policy == "raise":
            raise error from cause
        with self._lock:
            self.count += 1
            if len(self.named) < _MOST_NAMED:
                self.named.append(str(error))

    def __getstate__(self) -> dict[str, Any]:
        return {"policy": self.policy, "count": self.count, "named": self.named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


@dataclass(frozen=True)
class ReaderReport:
    """What a reader did so far. `str` is a table.

    `records`, `batches`: delivered. `skipped`: records that could not be read, `faults`: the first
    1000 of them with their place and reason. `native`: counters of the native reader, and `cache` of the disk
    cache, None where there is none.
    """

    records: int
    batches: int
    skipped: int
    faults: tuple[str, ...]
    native: dict[str, Any]
    cache: dict[str, int] | None

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**vars(self), "faults": list(self.faults)}

    def __str__(self) -> str:
        rows = [
            ("delivered", f"{self.records} records in {self.batches} batches"),
            ("skipped", f"{self.skipped} records"),
            *((name, str(value)) for name, value in self.native.items()),
            *((f"cache: {name}", str(value)) for name, value in (self.cache or {}).items()),
        ]
        lines = [columns(rows, left=(0, 1))]
        lines += [f"  {fault}" for fault in self.faults[:_SHOWN]]
        if self.skipped > _SHOWN:
            lines.append(f"  and {self.skipped - _SHOWN} more")
        return "\n".join(lines)
