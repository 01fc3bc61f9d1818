"""A state as JSON and leaves. Never pickle: what is not in the list below is refused.

JSON says None, bool, str, list, floats that are finite and integers below 2**53 as themselves. Everything
else is an object of one entry: {"int": hex}, {"float": hex of the big-endian bits}, {"tuple": [...]},
{"dict": [[key, value], ...]} with keys of str or int, {"leaf": number} for tensors and bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch

from thinwire.errors import CorruptChunk, InvalidArgument

Json: TypeAlias = Any
Data: TypeAlias = "torch.Tensor | bytes"
_EXACT = 1 << 53  # integers that every reader of JSON keeps
_TAKEN = "a checkpoint takes tensors, numbers, str, bytes, bool, None, lists, tuples and dicts"


class Leaf(NamedTuple):
    """A tensor or bytes, and the keys that lead to it."""

    path: str
    data: Data


def flatten(state: Any) -> tuple[Json, list[Leaf]]:
    """Take a state apart. Raises InvalidArgument, naming the key, for what a checkpoint does not take."""
    leaves: list[Leaf] = []
    try:
        return _describe(state, "", leaves), leaves
    except RecursionError:
        raise InvalidArgument("the state contains itself, or is nested too deeply") from None


def build(described: Json, leaf: Callable[[int], Any]) -> Any:
    """Put a state together; `leaf` gives the tensor or bytes of a number. Raises CorruptChunk."""
    if isinstance(described, list):
        return [build(item, leaf) for item in described]
    if not isinstance(described, dict):
        return described
    kind, value = tag(described)
    if kind == "dict":
        return {key: build(item, leaf) for key, item in value}
    if kind == "tuple":
        return tuple(build(item, leaf) for item in value)
    if kind == "leaf":
        return leaf(value)
    if kind == "int":
        return int(value, 16)
    return struct.unpack(">d", bytes.fromhex(value))[0]


def tag(described: dict[str, Any]) -> tuple[str, Any]:
    """The only entry of a description. Raises CorruptChunk."""
    if len(described) != 1 or (kind := next(iter(described))) not in (
        "dict",
        "tuple",
        "leaf",
        "int",
        "float",
    ):
        raise CorruptChunk(f"the checkpoint describes something as {str(described)[:60]}, which nothing is")
    return kind, described[kind]


def named_leaves(described: Json) -> Iterator[tuple[str, int]]:
    """The path and the number of every leaf below a description."""
    for path, item in ends(described):
        if (leaf := leaf_of(item)) is not None:
            yield path, leaf


def leaf_of(described: Json) -> int | None:
    """The number of a leaf, None for everything else."""
    if not isinstance(described, dict):
        return None
    kind, value = tag(described)
    return int(value) if kind == "leaf" else None


def entries_of(described: Json) -> dict[str | int, Json]:
    """The entries of a dict, none for everything else."""
    if not isinstance(described, dict):
        return {}
    kind, value = tag(described)
    return dict(value) if kind == "dict" else {}


def ends(described: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """The path and the description of everything that is neither a list, a tuple nor a dict."""
    kind, value = tag(described) if isinstance(described, dict) else ("", described)
    if isinstance(value, list):
        for i, item in enumerate(value):
            key, inner = item if kind == "dict" else (i, item)
            yield from ends(inner, join(path, key))
    else:
        yield path, described


def join(path: str, key: object) -> str:
    """The path of what lies under a key."""
    return f"{path}.{key}" if path else str(key)


def _describe(value: Any, path: str, leaves: list[Leaf]) -> Json:
    if isinstance(value, torch.Tensor) or type(value) is bytes:
        leaves.append(Leaf(path, value))
        return {"leaf": len(leaves) - 1}
    if isinstance(value, dict):
        return {"dict": [[_key(key, path), _describe(value[key], join(path, key), leaves)] for key in value]}
    if type(value) in (tuple, torch.Size):
        return {"tuple": [_describe(item, join(path, i), leaves) for i, item in enumerate(value)]}
    if type(value) is list:
        return [_describe(item, join(path, i), leaves) for i, item in enumerate(value)]
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if abs(value) < _EXACT else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    raise InvalidArgument(
        f"{path or 'the state'} is a {type(value).__module__}.{type(value).__name__}; {_TAKEN}: convert it"
    )


def _key(key: Any, path: str) -> str | int:
    if type(key) not in (str, int) or (type(key) is int and abs(key) >= _EXACT):
        raise InvalidArgument(f"{path or 'the state'} has the key {key!r}; keys are str, or int below 2**53")
    return key  # type: ignore[no-any-return]
