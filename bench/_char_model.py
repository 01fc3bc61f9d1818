"""A small transformer that predicts the next character."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from thinwire.bench._text import ALPHABET


@dataclass(frozen=True)
class Size:
    """How large a transformer is; `context` is the most characters it sees."""

    width: int
    layers: int
    heads: int
    context: int = 64


LARGE = Size(width=256, layers=4, heads=8)
"""3.2 million parameters: the demo's, about 0.12 s of computation on one core for ten windows."""
SMALL = Size(width=128, layers=3, heads=4)
"""0.63 million parameters: thousands of steps take minutes."""


class Block(nn.Module):
    """Causal self-attention and a perceptron, each after a layer norm and around a skip connection."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.norm1 = nn.LayerNorm(size.width)
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.project = nn.Linear(size.width, size.width)
        self.norm2 = nn.LayerNorm(size.width)
        self.up = nn.Linear(size.width, 4 * size.width)
        self.down = nn.Linear(4 * size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """Float [batch, time, width] to the same."""
        batch, time, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, time, 3, self.size.heads, width // self.size.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, time, width))
        hidden: Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        return x + hidden


class CharTransformer(nn.Module):
    """int64 characters [batch, time] to float logits [batch, time, alphabet]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, len(ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the character that follows each position."""
        hidden = self.characters(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits
