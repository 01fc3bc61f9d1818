"""One training step as the engine sees it, and the errors that a step can end with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from thinwire.errors import NUMBERED, OTHER_ERROR, Error, NonFinite, error_of_number


@dataclass(frozen=True)
class Failure:
    """An error as an aborted frame carries it: the same on every rank that reads it."""

    number: int
    reason: str

    @staticmethod
    def of(error: BaseException) -> Failure:
        """Describe an error."""
        fits = (number for number, kind in NUMBERED.items() if isinstance(error, kind))
        number = next(fits, OTHER_ERROR)
        return Failure(number, str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}")

    def error(self) -> Error:
        """Return the error to raise."""
        return error_of_number(self.number)(self.reason)


@dataclass
class Step:
    """What belongs to one step. Made by the hook, filled by the engine's threads.

    Attributes:
        number: the frames' `step`.
        weight: this rank's weight in the sum.
        source, target: which array of the residuals the step reads and writes.
        is_uneven: whether ranks may have joined, which do not train any more: their replicas lag behind.
        nonfinite: whether any value came out as NaN or infinite: the same on all ranks.
        complete: whether every bucket is done, or given to a device.
        later: waits for the device, and fills in what only that knew; None where nothing is left to know.
    """

    number: int
    weight: float
    source: int
    target: int
    is_uneven: bool = False
    nonfinite: bool = False
    complete: bool = False
    later: Callable[[], None] | None = None
    _failures: dict[tuple[int, int, int], Error] = field(default_factory=dict)
    _broken: Error | None = None

    def fail(self, error: Error, bucket: int, piece: int = 0, owner: int = 0) -> None:
        """Note an error that left the connections intact. The first one by place is raised, on every rank."""
        self._failures.setdefault((bucket, piece, owner), error)

    def has_failed(self, bucket: int) -> bool:
        """Say whether something went wrong with a bucket."""
        return any(place[0] == bucket for place in self._failures)

    def fail_for_good(self, error: Error) -> None:
        """Note that the engine cannot go on."""
        self._broken = error

    @property
    def is_settled(self) -> bool:
        """Whether the step ends with an error already, or all is known of it."""
        return self.later is None or self.error(raise_nonfinite=False) is not None

    def conclude(self) -> None:
        """Learn what is left to know of the step."""
        later, self.later = self.later, None
        if later is not None:
            later()

    def error(self, raise_nonfinite: bool) -> Error | None:
        """Return what the step ends with."""
        if self._broken is not None:
            return self._broken
        if self._failures:
            return self._failures[min(self._failures)]
        if self.nonfinite and raise_nonfinite:
            return NonFinite(
                f"step {self.number}: a gradient, or the sum over the ranks, holds NaN or infinity"
            )
        return None
