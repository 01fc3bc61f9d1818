"""The codecs by name, and the rule when raw takes their place."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from . import bf16, fp8, fp16, int2, int4, int8, raw, sign1, ternary, topk

CODECS: dict[str, ModuleType] = {
    "raw": raw,
    "fp16": fp16,
    "bf16": bf16,
    "fp8": fp8,
    "int8": int8,
    "int4": int4,
    "int2": int2,
    "ternary": ternary,
    "sign1": sign1,
    "topk": topk,
}
"""Every codec's module, in the order of `thinwire.codecs()`."""


def resolve(name: str, n: int, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the codec and parameters for `n` values: raw where the named codec would not be smaller."""
    if CODECS[name].payload_bytes(n, **params) < raw.payload_bytes(n):
        return name, params
    return "raw", {}
