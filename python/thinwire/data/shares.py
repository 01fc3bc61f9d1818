"""WeightedShares: how much of a global batch each rank takes where ranks are of unequal speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thinwire.data.batches import checked_count, checked_shares
from thinwire.errors import InvalidArgument


class WeightedShares:
    """Shares that follow measured speeds, so that all ranks end a step at about the same time.

    Args:
        world_size: the number of ranks.
        smoothing: how much a new measurement counts against all before it, above 0 and up to 1.
        change: how far a share moves in one update at most, in equal shares.
        most: how many equal shares a rank takes at most; its memory must hold that many samples.

    Every rank keeps one, and gives it the measurements of all ranks; only exactly rounded operations are
    used, so that all come to the same shares without a word. A rank that did not would be found out at once:
    the hook refuses weights that do not add up to 1.

    Raises InvalidArgument for numbers that do not fit.
    """

    def __init__(
        self, world_size: int, smoothing: float = 0.3, change: float = 0.1, most: float = 2.0
    ) -> None:
        self.world_size = checked_count("world_size", world_size)
        self._smoothing = _checked("smoothing", smoothing, 0 < smoothing <= 1, "above 0 and up to 1")
        self._change = _checked("change", change, change > 0, "above 0")
        self._most = _checked("most", most, most >= 1, "1 or more")
        self._speeds: tuple[float, ...] | None = None
        self._shares = (1 / self.world_size,) * self.world_size

    @property
    def shares(self) -> tuple[float, ...]:
        """Each rank's share; they add up to 1, but for rounding."""
        return self._shares

    @property
    def speeds(self) -> tuple[float, ...] | None:
        """Each rank's smoothed speed, in samples a second; None before the first measurement."""
        return self._speeds

    def update(self, samples: Sequence[float], seconds: Sequence[float]) -> tuple[float, ...]:
        """Take a measurement of every rank and return the new shares, for `ElasticSampler.set_shares`.

        `samples`: how many samples, or tokens, each rank worked on; a rank without any keeps its speed.
        `seconds`: how long each computed, without the time it waited for others, else all look alike.

        Raises InvalidArgument unless there is a sound number for each rank.
        """
        measured = self._measured(samples, seconds)
        kept = self._speeds or measured
        self._speeds = tuple(
            old + self._smoothing * (new - old) for old, new in zip(kept, measured, strict=True)
        )
        wanted = _capped(self._speeds, self._most / self.world_size)
        self._shares = self._towards(wanted)
        return self._shares

    def state_dict(self) -> dict[str, Any]:
        """Return speeds and shares, as small JSON. The same on all ranks."""
        return {"speeds": self._speeds, "shares": self._shares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up speeds and shares; those of another number of ranks tell nothing and are left out.

        Raises InvalidArgument for anything that `state_dict` did not return.
        """
        shares = state.get("shares") if isinstance(state, Mapping) else None
        if not isinstance(shares, (list, tuple)):
            raise InvalidArgument("this is no state of WeightedShares")
        if len(shares) != self.world_size:
            return
        speeds = state.get("speeds")
        checked = None if speeds is None else checked_shares("speeds", speeds, self.world_size)
        self._shares = checked_shares("shares", shares, self.world_size)
        self._speeds = checked

    def _measured(self, samples: Sequence[float], seconds: Sequence[float]) -> tuple[float, ...]:
        times = checked_shares("seconds", seconds, self.world_size)
        if len(samples) != self.world_size or not all(math.isfinite(n) and n >= 0 for n in samples):
            raise InvalidArgument(f"samples is {samples!r}; it must be {self.world_size} counts, one a rank")
        if not any(samples):
            raise InvalidArgument("samples is 0 on every rank; there is nothing to measure")
        found = [float(n) / t for n, t in zip(samples, times, strict=True)]
        known = [speed for speed in found if speed > 0]
        unknown = self._speeds or (math.fsum(known) / len(known),) * self.world_size
        return tuple(new if new > 0 else old for new, old in zip(found, unknown, strict=True))

    def _towards(self, wanted: Sequence[float]) -> tuple[float, ...]:
        """The way from the present shares to those wanted, as far as no share moves too far."""
        moves = [new - old for new, old in zip(wanted, self._shares, strict=True)]
        furthest = max(map(abs, moves))
        part = min(1.0, self._change / self.world_size / furthest) if furthest > 0 else 0.0
        return tuple(old + part * move for old, move in zip(self._shares, moves, strict=True))


def _capped(speeds: Sequence[float], cap: float) -> list[float]:
    """Shares in proportion to speeds, none above `cap`: what is cut off goes to the others."""
    shares = [0.0] * len(speeds)
    order = sorted(range(len(speeds)), key=lambda rank: -speeds[rank])
    left = 1.0
    for place, rank in enumerate(order):
        rest = math.fsum(speeds[other] for other in order[place:])
        shares[rank] = min(cap, left * speeds[rank] / rest)
        left -= shares[rank]
    return shares


def _checked(name: str, value: float, fits: bool, rule: str) -> float:
    if not fits:
        raise InvalidArgument(f"{name} is {value!r}; it must be {rule}")
    return float(value)


__all__ = ["WeightedShares"]
