"""A recurrent network that predicts the next character."""

from __future__ import annotations

from torch import Tensor, nn

from thinwire.bench._text import ALPHABET

_EMBEDDING, _HIDDEN = 160, 256


class CharGru(nn.Module):
    """0.36 million parameters; int64 characters [batch, time] to float logits [batch, time, alphabet]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(ALPHABET), _EMBEDDING)
        self.gru = nn.GRU(_EMBEDDING, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN, len(ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the character that follows each position."""
        hidden, _ = self.gru(self.characters(x))
        logits: Tensor = self.head(hidden)
        return logits
