"""Small objects of JSON that know their path and that they are whole."""

from __future__ import annotations

import json
from typing import Any

from thinwire import _core
from thinwire.errors import CorruptChunk


def encode(path: str, content: dict[str, Any]) -> bytes:
    """The object: a line with the BLAKE3 of path and content in hex, then the content."""
    text = json.dumps(content).encode()
    return _check(path, text) + b"\n" + text


def decode(path: str, data: bytes, advice: str) -> dict[str, Any]:
    """The content. Raises CorruptChunk, with the advice."""
    check, _, text = data.partition(b"\n")
    if check != _check(path, text):
        raise CorruptChunk(f"{path} is damaged; {advice}")
    content: dict[str, Any] = json.loads(text)
    return content


def _check(path: str, text: bytes) -> bytes:
    digest: bytes = _core.blake3(path.encode() + b"\n" + text)
    return digest.hex().encode()
