"""What a version's bytes are called: the files of a folder, the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple


class Part(NamedTuple):
    """Bytes `begin` to `end` of a version. `facts` is what else is said of them: mode, dtype, shape."""

    name: str
    begin: int
    end: int
    facts: Mapping[str, Any]


def parts_of(metadata: Mapping[str, Any]) -> list[Part]:
    """The parts of a version in order, by what its manifest says; none where it is one piece."""
    if metadata.get("kind") == "tree":
        return list(_files(metadata["files"]))
    if "extents" in metadata:
        return list(_leaves(metadata))
    return []


def _files(entries: list[dict[str, Any]]) -> Iterator[Part]:
    """Files lie one after another; folders and links have no bytes."""
    end = 0
    for entry in entries:
        begin, end = end, end + entry.get("size", 0)
        facts: dict[str, Any] = {key: entry[key] for key in ("kind", "target") if key in entry}
        yield Part(entry["path"], begin, end, facts | {"mode": f"{entry['mode']:o}"})


def _leaves(metadata: Mapping[str, Any]) -> Iterator[Part]:
    """Tensors lie in extents; numbers and text are in the description itself."""
    begins = [0, *accumulate(metadata["extents"])]
    for name, kind, value in _named(metadata["tree"], ""):
        if kind == "leaf":
            extent, offset, size, *spec = metadata["leaves"][value]
            facts = dict(zip(("dtype", "shape"), spec, strict=False))
            yield Part(name, begins[extent] + offset, begins[extent] + offset + size, facts)
        else:
            yield Part(name, 0, 0, {"value": value})


def _named(described: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """The path, kind and value of everything in a checkpoint's description that is no container."""
    if isinstance(described, list):
        for number, item in enumerate(described):
            yield from _named(item, _join(path, number))
    elif isinstance(described, dict):
        ((kind, value),) = described.items()
        if kind == "dict":
            for key, item in value:
                yield from _named(item, _join(path, key))
        elif kind == "tuple":
            yield from _named(value, path)
        else:
            yield path, kind, value
    else:
        yield path, "value", described


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
