"""Names with parameters, as text: "int4:block=64", "native:average=16384"."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thinwire.errors import InvalidArgument

Parsers = Mapping[str, tuple[Callable[[Any], Any], str]]
"""How the value of a parameter is read, and what it must be."""


def integer(value: Any) -> int:
    """The integer that a number or a text is. Raises TypeError or ValueError where it is none."""
    return int(value) if isinstance(value, str) else operator.index(value)


def boolean(value: Any) -> bool:
    """The boolean that a value or a text, "true" or "false", is. Raises ValueError where it is none."""
    found = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError(value)
    return found


def split(text: str, kind: str) -> tuple[str, list[tuple[str, str]]]:
    """The name and the parameters of "name:parameter=value,parameter=value".

    `kind` says in errors what is named so. Raises InvalidArgument for text of another form.
    """
    name, colon, rest = text.partition(":")
    return name, [_pair(item, text, kind) for item in rest.split(",")] if colon else []


def _pair(item: str, text: str, kind: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not equals or not key or not value:
        raise InvalidArgument(f"'{text}' is not a {kind}; write name:parameter=value,parameter=value")
    return key, value


def read(given: Iterable[tuple[str, Any]], owner: str, parsers: Parsers) -> dict[str, Any]:
    """The values of `given` parameters, each read by its parser. `owner` says in errors whose they are.

    Raises InvalidArgument for a parameter without a parser, one that is given twice, and a value that its
    parser does not take.
    """
    values: dict[str, Any] = {}
    for key, value in given:
        if key not in parsers:
            raise InvalidArgument(f"{owner} has no parameter '{key}'")
        if key in values:
            raise InvalidArgument(f"{key} is given twice")
        parse, kind = parsers[key]
        try:
            values[key] = parse(value)
        except (TypeError, ValueError):
            raise InvalidArgument(f"{key} is {value!r}; it must be {kind}") from None
    return values
