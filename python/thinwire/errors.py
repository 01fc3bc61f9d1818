"""Every error thinwire raises. Each also is the built-in exception that a caller would expect."""

from __future__ import annotations

__all__ = [
    "Conflict",
    "CorruptChunk",
    "CorruptFrame",
    "CorruptRecord",
    "CudaError",
    "DataDrift",
    "Error",
    "FormatVersion",
    "InvalidArgument",
    "NonFinite",
    "NotBuilt",
    "NotFound",
    "PeerLost",
    "PoolExhausted",
    "ReplicaMismatch",
    "StoreError",
    "Timeout",
    "TransportError",
    "WrongKey",
]


class Error(Exception):
    """Base of all thinwire errors."""


class InvalidArgument(Error, ValueError):
    """An argument, or what two ranks were told, does not fit; the message says what would."""


class CorruptFrame(Error):
    """A frame arrived cut off, changed, or is none."""


class CorruptRecord(Error):
    """A record of a data file is damaged, cut off, or cannot be used.

    `file` is its path, `offset` the byte where it begins there, `record` its number in the file, from 0; None
    where it is not known, or the whole file is meant.
    """

    def __init__(
        self, message: str, file: str | None = None, offset: int | None = None, record: int | None = None
    ) -> None:
        super().__init__(message)
        self.file, self.offset, self.record = file, offset, record


class DataDrift(Error):
    """Data differs from a reference more than was allowed."""


class TransportError(Error, ConnectionError):
    """Ranks could not exchange data."""


class PeerLost(TransportError):
    """A rank died, hangs, or was cut off. `rank` says which, or is None where that could not be found out."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


class Timeout(Error, TimeoutError):
    """A deadline passed."""


class NonFinite(Error, ArithmeticError):
    """A gradient holds a NaN or an infinity, and nonfinite="raise" was asked for."""


class ReplicaMismatch(Error):
    """Parameters that must be the same bits on all ranks are not."""


class CudaError(Error):
    """A CUDA call failed."""


class NotBuilt(Error):
    """This build, or this release, does not have what was asked for."""


class PoolExhausted(Error, MemoryError):
    """A pool's limit is reached."""


class StoreError(Error, OSError):
    """A store cannot be read or written."""


class NotFound(StoreError, KeyError):
    """A store has no such name or version."""

    __str__ = Exception.__str__  # KeyError's would show the message in quotes


class WrongKey(StoreError):
    """The key does not open this store."""


class CorruptChunk(StoreError):
    """A chunk of a store is damaged."""


class FormatVersion(StoreError):
    """A store, or a file of records, was written in a format this release does not know."""


class Conflict(StoreError):
    """Somebody else moved a reference first."""


OTHER_ERROR = 6
NUMBERED: dict[int, type[Error]] = {
    1: InvalidArgument,
    2: CorruptFrame,
    3: TransportError,
    4: Timeout,
    5: ReplicaMismatch,
    OTHER_ERROR: Error,
    7: PeerLost,
    8: CudaError,
}
"""The errors that cross the wire (docs/wire/frame.md)."""


def error_of_number(number: int) -> type[Error]:
    """Return the class of an error that came over the wire."""
    return NUMBERED.get(number, Error)
