"""The training task of the demo and of `bench ddp`: a small transformer that predicts the next character.

The text is on every machine: the Python standard library's own sources, read from the interpreter that runs.
"""

from __future__ import annotations

import string
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

CONTEXT = 64
"""Characters a window holds."""
WIDTH = 256
LAYERS = 4
HEADS = 8
BATCH = 10
"""Windows a rank takes in one step: about 0.12 s of computation on one core."""
LEARNING_RATE = 1e-3

_ALPHABET = sorted(string.printable)
_TEXT_BYTES = 4 * 2**20
_HELD_OUT_SHARE = 0.05
_EVALUATION_WINDOWS = 256


class Block(nn.Module):
    """Causal self-attention and a perceptron, each after a layer norm and around a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Float [batch, time, WIDTH] to the same."""
        batch, time, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, time, 3, HEADS, WIDTH // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, time, WIDTH))
        hidden: Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        return x + hidden


class CharTransformer(nn.Module):
    """3.2 million parameters; int64 characters [batch, time] to float logits [batch, time, alphabet]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(_ALPHABET), WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(_ALPHABET))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the character that follows each position."""
        hidden = self.characters(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(hidden)))
        return logits


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean cross-entropy in nats a character; `windows` are int64 [batch, CONTEXT + 1]."""
    logits = model(windows[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


class Corpus:
    """The text as windows: an endless stream of random ones to train on, and fixed ones held out."""

    def __init__(self) -> None:
        codes = _encode(_standard_library())
        cut = int(len(codes) * (1 - _HELD_OUT_SHARE))
        self._training, self._held_out = codes[:cut], codes[cut:]

    def batch(self, generator: torch.Generator) -> Tensor:
        """BATCH random training windows, int64 [BATCH, CONTEXT + 1]."""
        starts = torch.randint(len(self._training) - CONTEXT, (BATCH,), generator=generator)
        return torch.stack([self._training[s : s + CONTEXT + 1] for s in starts.tolist()])

    def held_out_loss(self, model: nn.Module, rank: int, world_size: int) -> Tensor:
        """Mean loss over this rank's share of the windows that no step trains on; a scalar."""
        starts = torch.linspace(0, len(self._held_out) - CONTEXT - 1, _EVALUATION_WINDOWS).long()
        mine = torch.split(starts[rank::world_size], BATCH)
        with torch.no_grad():
            losses = [loss_of(model, self._windows(share)) * len(share) for share in mine]
        return torch.stack(losses).sum() / sum(map(len, mine))

    def _windows(self, starts: Tensor) -> Tensor:
        return torch.stack([self._held_out[s : s + CONTEXT + 1] for s in starts.tolist()])


def _standard_library() -> str:
    """The modules at the top of the standard library, in the order of their names, up to 4 MiB."""
    folder = Path(sysconfig.get_path("stdlib"))
    text, size = [], 0
    for path in sorted(folder.glob("*.py")):
        text.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(text[-1])
        if size >= _TEXT_BYTES:
            break
    if size < _TEXT_BYTES // 8:
        raise RuntimeError(
            f"no sources in {folder}: the demo trains on the text of the standard library there"
        )
    return "".join(text)


def _encode(text: str) -> Tensor:
    """One int64 code a character; whatever is not printable ASCII becomes a space."""
    codes = torch.full((128,), _ALPHABET.index(" "), dtype=torch.int64)
    for code, character in enumerate(_ALPHABET):
        codes[ord(character)] = code
    raw = torch.frombuffer(bytearray(text.encode("ascii", errors="replace")), dtype=torch.uint8)
    return codes[raw.long()]
