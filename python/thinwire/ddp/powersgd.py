"""PowerSGD: what `codec="powersgd:rank=4"` asks for, and the shapes of the factors (`docs/powersgd.md`).

Vogels, Karimireddy, Jaggi: "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization"
(2019), with one of the two factors a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thinwire._core import GREATEST_BASIS_RANK, CodecSpec
from thinwire.errors import InvalidArgument

NAME = "powersgd"
FACTOR_CODECS = {"int8": CodecSpec("int8", block=64), "bf16": CodecSpec("bf16"), "fp32": CodecSpec("raw")}
"""How factors can travel. The blocks are short: a vector of a factor has a size of its own."""
DEFAULT_RANK = 4
PHASE_STEPS = 16
"""Steps in which the sides take turns strictly."""


@dataclass(frozen=True)
class PowerSGD:
    """Matrices travel as one of two factors of `rank` vectors each, encoded as `factors` says.

    `is_rank_given`: whether somebody asked for just so many.
    """

    rank: int = DEFAULT_RANK
    factors: str = "int8"
    is_rank_given: bool = field(default=False, compare=False)

    @property
    def spec(self) -> CodecSpec:
        """The codec of the factors."""
        return FACTOR_CODECS[self.factors]

    def __str__(self) -> str:
        factors = "" if self.factors == "int8" else f",factors={self.factors}"
        return f"{NAME}:rank={self.rank}{factors}"


@dataclass(frozen=True)
class FactorShape:
    """Of a matrix's factors: `rank` vectors of `rows` values on the left, of `columns` on the right."""

    rank: int
    rows: int
    columns: int

    def values(self, is_left: bool) -> int:
        """Return the values of one factor."""
        return self.rank * (self.rows if is_left else self.columns)


def is_request(codec: str) -> bool:
    """Say whether this asks for PowerSGD instead of naming a codec."""
    return codec.partition(":")[0] == NAME


def parse(text: str) -> PowerSGD:
    """Read "powersgd", "powersgd:rank=8", "powersgd:rank=8,factors=bf16".

    Raises InvalidArgument naming the parameter that is wrong.
    """
    given: dict[str, str] = {}
    for part in filter(None, text.partition(":")[2].split(",")):
        name, _, value = part.partition("=")
        if name not in ("rank", "factors") or name in given:
            raise InvalidArgument(
                f"codec is {text!r}: {NAME} takes rank and factors, once each, as in '{NAME}:rank=4'"
            )
        given[name] = value
    rank, factors = given.get("rank", str(DEFAULT_RANK)), given.get("factors", "int8")
    if not (rank.isascii() and rank.isdigit() and 1 <= int(rank) <= GREATEST_BASIS_RANK):
        raise InvalidArgument(
            f"codec is {text!r}: rank is {rank!r}; it must be a number from 1 to {GREATEST_BASIS_RANK}"
        )
    if factors not in FACTOR_CODECS:
        raise InvalidArgument(
            f"codec is {text!r}: factors is {factors!r}; it must be one of {', '.join(FACTOR_CODECS)}"
        )
    return PowerSGD(int(rank), factors, "rank" in given)


def sends_left(step: int) -> bool:
    """Say whether a step sends left factors; else it sends right ones.

    The sides take turns, and now and then one comes twice in a row. If they only took turns, a parameter that
    has a gradient in every second step would send the same side for ever, with the other never learnt. When
    that happens goes by the Thue-Morse sequence, which is constant at no fixed stride.
    """
    return (step + (step // PHASE_STEPS).bit_count()) % 2 == 0
