"""What a training step will cost on a measured link, codec by codec, and which codec to take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thinwire._advice import OVERHEAD_SECONDS, best_bucket_cap

RAW = "raw"
MUST_BE_TIMES_FASTER = {"int8": 1.05, "int4": 1.1, "int2": 1.2, "ternary": 1.3, "sign1": 1.5, "topk": 1.5}
"""How many times shorter a codec must make the step than the choice so far: the price of what it loses."""
CODECS = (RAW, *MUST_BE_TIMES_FASTER)
"""In the order of what they lose."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Prediction:
    """A codec's part in a step, in seconds. `wait` and `step` are None where backward's time is not known."""

    codec: str
    communication: float
    wait: float | None = None
    step: float | None = None
    bucket_cap_mb: int | None = None

    @property
    def deciding(self) -> float:
        """What should be short: the step, or else the communication."""
        return self.communication if self.step is None else self.step


def parse_count(text: str) -> int:
    """A number of parameters from `124M`, `1.5B`, `350k` or a plain number; ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgbt]?)", text.strip().lower())
    count = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if count < 1:
        raise ValueError(f"'{text}' is not a number of parameters; write 124M or 1.5B")
    return count


def predict(
    seconds_per_byte: Mapping[str, float], latency: float, params: int, backward: float | None
) -> list[Prediction]:
    """One prediction a codec, from the seconds that an all-reduce takes a byte of fp32 gradient.

    With `backward` the exchange overlaps with it, in buckets of the size that fits best.
    """
    total = 4.0 * params
    found = []
    for codec, per_byte in seconds_per_byte.items():
        communication = total * per_byte + latency
        if backward is None:
            found.append(Prediction(codec, communication))
            continue
        cap, wait = best_bucket_cap(total, backward, per_byte)
        wait += max(0.0, latency - OVERHEAD_SECONDS)
        found.append(Prediction(codec, communication, wait, backward + wait, cap))
    return found


def choose(predictions: list[Prediction]) -> Prediction:
    """The codec to take: the one that loses least, unless another one is worth its price."""
    chosen = next(each for each in predictions if each.codec == RAW)
    for each in predictions:
        if each.codec != RAW and chosen.deciding > each.deciding * MUST_BE_TIMES_FASTER[each.codec]:
            chosen = each
    return chosen
