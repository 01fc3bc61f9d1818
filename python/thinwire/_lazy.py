"""Names of a package that are imported at first use, so that the package works without PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, str], modules: Collection[str] = ()) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    `names` says for each name which module of the package it comes from; `modules` are names themselves.
    Where PyTorch is missing, the ModuleNotFoundError says what needs it and how to install it.
    """

    def find(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in names:
            return getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def find_or_explain(name: str) -> Any:
        try:
            return find(name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ModuleNotFoundError(
                f"{package}.{name} needs PyTorch, which is not installed: pip install 'thinwire[torch]'",
                name=error.name,
            ) from error

    return find_or_explain
