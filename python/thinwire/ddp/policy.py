"""Which codec a parameter's gradient gets.

Most of a model's values lie in a few matrices; these take the codec that was asked for. The rest is cheap to
send well, and costs much when it is not: biases, norms and small matrices go in 16 bit, and under sign1 and
topk the embeddings and the output head in int8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from thinwire._core import CodecSpec

BITS_16_RATIO = 2.0
"""A codec that shrinks fp32 by no more than this is exact enough to need neither residual nor policy."""
COARSEST_CODECS = ("sign1", "topk")
"""Codecs that start with WARMUP_STEPS of WARMUP_CODEC, and leave embeddings and head to PROTECTED_CODEC."""
WARMUP_STEPS = 40
WARMUP_CODEC = CodecSpec("int4")
PROTECTED_CODEC = CodecSpec("int8")
_SIXTEEN_BIT = {torch.float16: CodecSpec("fp16"), torch.bfloat16: CodecSpec("bf16")}


@dataclass(frozen=True)
class Policy:
    """The codec of every parameter, as a function of shape, dtype and step.

    `codec` is what was asked for, `small` the number of values below which a parameter goes in 16 bit,
    `warmup` the number of steps of int4 at the start, `feedback` whether residuals are wanted, `protected`
    the embeddings and the head (by identity, not by name).
    """

    codec: CodecSpec
    small: int
    warmup: int
    feedback: bool
    protected: frozenset[torch.Tensor]

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

    def _is_small(self, parameter: torch.Tensor) -> bool:
        return parameter.dim() <= 1 or parameter.numel() < self.small


def default_warmup(codec: CodecSpec) -> int:
    """Return the steps of int4 a codec starts with unless told otherwise."""
    return WARMUP_STEPS if codec.name in COARSEST_CODECS else 0


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
