"""Text to train on that is on every machine with Python, as numbers."""

from __future__ import annotations

import string
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

ALPHABET = sorted(string.printable)

_TEXT_BYTES = 4 * 2**20
_HELD_OUT_SHARE = 0.05


class Text:
    """A text as int64 codes, one a character; its end is held out."""

    def __init__(self, text: str) -> None:
        codes = _encode(text)
        cut = int(len(codes) * (1 - _HELD_OUT_SHARE))
        self.training, self.held_out = codes[:cut], codes[cut:]


def windows(codes: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """int64 [len(starts), length]: the codes from each start on."""
    return torch.stack([codes[start : start + length] for start in starts])


def standard_library() -> str:
    """Python sources: the modules at the top of the standard library, in the order of names, up to 4 MiB."""
    folder = Path(sysconfig.get_path("stdlib"))
    text, size = [], 0
    for path in sorted(folder.glob("*.py")):
        text.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(text[-1])
        if size >= _TEXT_BYTES:
            break
    if size < _TEXT_BYTES // 8:
        raise RuntimeError(f"no sources in {folder}: the training text is that of the standard library there")
    return "".join(text)


def language_reference() -> str:
    """English prose about Python: what `help()` knows of its syntax, about 0.5 MiB."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _encode(text: str) -> Tensor:
    """One int64 code a character; whatever is not printable ASCII becomes a space."""
    codes = torch.full((128,), ALPHABET.index(" "), dtype=torch.int64)
    for code, character in enumerate(ALPHABET):
        codes[ord(character)] = code
    raw = torch.frombuffer(bytearray(text.encode("ascii", errors="replace")), dtype=torch.uint8)
    return codes[raw.long()]
