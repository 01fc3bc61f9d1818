"""Which codec a parameter's gradient gets.

Most of a model's values lie in a few matrices; these take the codec that was asked for. The rest is cheap to
send well, and costs much when it is not: biases, norms and small matrices go in 16 bit, and under the
coarsest codecs the embeddings and the output head in int8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from thinwire._core import GREATEST_BASIS_RANK, CodecSpec
from thinwire.ddp.model import matrix_shape
from thinwire.ddp.plan import BasisShape, Coding
from thinwire.ddp.powersgd import FactorShape, PowerSGD, sends_left
from thinwire.errors import InvalidArgument

BITS_16_RATIO = 2.0
"""A codec that shrinks fp32 by no more than this is exact enough to need neither residual nor policy."""
COARSEST_CODECS = ("int2", "ternary", "sign1", "topk")
"""Codecs that start with steps of WARMUP_CODEC and, without a basis, leave embeddings and head to
PROTECTED_CODEC."""
DEFAULT_RANKS = {"int2": 4, "ternary": 4, "sign1": 8, "topk": 8}
"""The vectors of a shared basis that these codecs take unless told otherwise."""
WARMUP_STEPS, WARMUP_STEPS_WHILE_LEARNING = 40, 10
WARMUP_CODEC = CodecSpec("int4")
PROTECTED_CODEC = CodecSpec("int8")
DEFAULT_SHARES = {"topk": 0.25}
"""Of what arrives beside a basis, the part that a step hands over; the rest comes with the next ones."""
LEAST_SHARE = 1 / 64
SIGN1_BLOCK_WITH_BASIS = 1024
"""A basis takes up what the finer scales of shorter blocks are for."""
COLUMNS_A_VECTOR = 8
"""A matrix has no more vectors than columns divided by this: coefficients then cost at most a bit a value."""
MOST_COLUMNS = 1 << 15
"""A matrix with longer rows has no basis: a slice would hold too few of them. It has no factors either."""
LEAST_GAIN = 2
"""A matrix travels as factors only if each has at least so many times fewer values."""
_SIXTEEN_BIT = {torch.float16: CodecSpec("fp16"), torch.bfloat16: CodecSpec("bf16")}


@dataclass(frozen=True)
class Policy:
    """The codec of every parameter, as a function of shape, dtype and step.

    `codec` is what was asked for, `small` the number of values below which a parameter goes in 16 bit,
    `warmup` the number of steps of int4 at the start, `feedback` whether residuals are wanted, `protected`
    the embeddings and the head (by identity, not by name), `rank` the vectors of the matrices' bases,
    `is_rank_given` whether somebody asked for just so many, and `share` the part of what arrives beside a
    basis that a step hands to the optimizer. With `reducer`, matrices travel as factors after the warm-up,
    and `codec` is that of the warm-up.
    """

    codec: CodecSpec
    small: int
    warmup: int
    feedback: bool
    protected: frozenset[torch.Tensor]
    rank: int = 0
    is_rank_given: bool = False
    share: float = 1.0
    reducer: PowerSGD | None = None

    @property
    def name(self) -> str:
        """What was asked for, as it is written."""
        return str(self.reducer or self.codec)

    @property
    def is_coarse(self) -> bool:
        """Whether the codec has fewer than 16 bits a value."""
        return self.codec.ratio > BITS_16_RATIO

    def keeps_residual(self, parameter: torch.Tensor) -> bool:
        """Say whether this parameter has a residual."""
        return self.feedback and self.is_coarse and not self._is_small(parameter)

    def is_warm(self, step: int) -> bool:
        """Say whether `step` is past the steps that are sent in int4."""
        return step >= self.warmup

    def sends_left(self, step: int) -> bool | None:
        """Say whether `step` sends left factors or right ones; None where it sends none."""
        return sends_left(step) if self.reducer is not None and self.is_warm(step) else None

    def codec_of(self, parameter: torch.Tensor, dtype: torch.dtype, warm: bool) -> CodecSpec:
        """Return the codec of a parameter whose gradient has `dtype`."""
        if not self.is_coarse:
            exact_in_16_bit = self.codec.name == "raw" and dtype in _SIXTEEN_BIT
            return _SIXTEEN_BIT[dtype] if exact_in_16_bit else self.codec
        if self._is_small(parameter):
            return _SIXTEEN_BIT.get(dtype, _SIXTEEN_BIT[torch.bfloat16])
        if parameter in self.protected:
            return PROTECTED_CODEC
        return self.codec if warm else WARMUP_CODEC

    def basis_of(self, parameter: torch.Tensor) -> BasisShape | None:
        """Return the shape of a parameter's shared basis; None where it would cost more than it brings.

        Raises InvalidArgument where more vectors were asked for than the matrix has rows or columns.
        """
        if not self.rank or not self.is_coarse or self._is_small(parameter) or parameter in self.protected:
            return None
        rows, columns = matrix_shape(parameter)
        if self.is_rank_given and self.rank > min(rows, columns):
            raise InvalidArgument(
                f"basis={self.rank} is above the sides of a parameter of shape {tuple(parameter.shape)}"
                f" ({rows} x {columns}); take fewer vectors, or a greater `small`"
            )
        rank = min(self.rank, columns // COLUMNS_A_VECTOR, rows // 2)
        return BasisShape(rank, columns) if rank > 0 and columns <= MOST_COLUMNS else None

    def factors_of(self, parameter: torch.Tensor) -> FactorShape | None:
        """Return the shape of the factors a parameter travels as; None where it does not.

        Raises InvalidArgument where more vectors were asked for than the matrix has rows or columns.
        """
        if self.reducer is None or self._has_few_values(parameter):
            return None
        (rows, columns), rank = matrix_shape(parameter), self.reducer.rank
        if self.reducer.is_rank_given and rank > min(rows, columns):
            raise InvalidArgument(
                f"{self.reducer} is above the sides of a parameter of shape {tuple(parameter.shape)}"
                f" ({rows} x {columns}); take a smaller rank, or a greater `small`"
            )
        gains = rank * LEAST_GAIN <= min(rows, columns) and columns <= MOST_COLUMNS
        return FactorShape(rank, rows, columns) if gains else None

    def check_fit(self, name: str, parameter: torch.Tensor) -> None:
        """Raise InvalidArgument, with this name, where `basis_of` or `factors_of` would."""
        try:
            self.basis_of(parameter)
            self.factors_of(parameter)
        except InvalidArgument as error:
            raise InvalidArgument(f"{name}: {error}") from error

    def coding_of(self, parameter: torch.Tensor, dtype: torch.dtype, warm: bool) -> Coding:
        """Return how the gradient of a parameter travels, or its factor.

        A basis and factors are learnt in the warm-up, used after it.
        """
        if warm and self.reducer is not None and self.factors_of(parameter) is not None:
            return Coding(self.reducer.spec)
        return Coding(self.codec_of(parameter, dtype, warm), self.basis_of(parameter) if warm else None)

    def _is_small(self, parameter: torch.Tensor) -> bool:
        if self.reducer is not None:
            return self.factors_of(parameter) is None
        return self._has_few_values(parameter)

    def _has_few_values(self, parameter: torch.Tensor) -> bool:
        return parameter.dim() <= 1 or parameter.numel() < self.small


def default_warmup(codec: CodecSpec, rank: int) -> int:
    """Return the steps of int4 a codec starts with unless told otherwise."""
    if codec.name not in COARSEST_CODECS:
        return 0
    return WARMUP_STEPS_WHILE_LEARNING if rank else WARMUP_STEPS


def check_rank(rank: int) -> None:
    """Raise InvalidArgument for a number of vectors that no basis has."""
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= GREATEST_BASIS_RANK:
        raise InvalidArgument(
            f"basis is {rank!r}; it must be a number of vectors up to {GREATEST_BASIS_RANK}, or 0 for none"
        )


def check_share(share: float) -> None:
    """Raise InvalidArgument for what is no part of a whole, or so small that it would never come."""
    is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not (is_number and LEAST_SHARE <= share <= 1):
        raise InvalidArgument(f"share is {share!r}; it must be a number from {LEAST_SHARE:g} to 1")


def protected_parameters(codec: CodecSpec, modules: Iterable[nn.Module]) -> frozenset[torch.Tensor]:
    """Return the weights of embeddings and of the output head, where the codec is too coarse for them.

    The head is the last linear layer with as many outputs as an embedding has rows, or else the last linear
    layer.
    """
    if codec.name not in COARSEST_CODECS:
        return frozenset()
    embeddings: list[torch.Tensor] = []
    linears: list[torch.Tensor] = []
    for module in modules:
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            embeddings.append(module.weight)
        elif isinstance(module, nn.Linear):
            linears.append(module.weight)
    rows = {weight.shape[0] for weight in embeddings}
    heads = [weight for weight in linears if weight.shape[0] in rows] or linears
    return frozenset([*embeddings, *heads[-1:]])
