"""`_core.pyi` says what the native module has: every name, parameter, default and result."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import thinwire
from thinwire import _core

STUB = Path(thinwire.__file__).with_name("_core.pyi")
INHERITED = ("__repr__", "__str__")  # of every object, and of the same type: a stub need not repeat them

Definition = ast.FunctionDef | ast.AnnAssign | ast.ClassDef


class Signature(NamedTuple):
    """What a caller can see. The result only where it is one plain name, which the stub cannot refine."""

    parameters: list[str]
    defaults: list[str]
    keyword_only: list[str]
    result: str | None


def signature_of(definition: ast.FunctionDef) -> Signature:
    arguments = definition.args
    assert (arguments.vararg, arguments.kwarg) == (None, None), definition.name
    everything = [a.arg for a in arguments.posonlyargs + arguments.args]
    defaults = [ast.unparse(d) for d in arguments.defaults + [d for d in arguments.kw_defaults if d]]
    result = definition.returns
    plain = ast.unparse(result) if isinstance(result, (ast.Name, ast.Constant)) else None
    if plain in ("dict", "_BuildInfo"):
        plain = None
    return Signature(
        [name for name in everything if name != "self"],
        defaults,
        [a.arg for a in arguments.kwonlyargs],
        plain,
    )


def native_signature(function: Any) -> Signature:
    """The signature in the first line of a native function's documentation."""
    line = function.__doc__.splitlines()[0].replace("thinwire._core.", "")
    return signature_of(ast.parse(f"def {line}: ...").body[0])


def stub_definitions(body: list[ast.stmt]) -> dict[str, list[Definition]]:
    """Definitions by name; a property with a setter has two."""
    found: dict[str, list[Definition]] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(node)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(node)
    return found


MODULE = stub_definitions(ast.parse(STUB.read_text()).body)
PUBLIC = sorted(name for name in vars(_core) if not name.startswith("_"))
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(_core, name))]
FUNCTIONS = [name for name in PUBLIC if callable(getattr(_core, name)) and name not in CLASSES]


def members(name: str) -> Iterator[tuple[str, Any]]:
    """The members that a class of the module defines itself, without what pybind11 puts into every class."""
    for member, raw in vars(getattr(_core, name)).items():
        value = raw.__func__ if isinstance(raw, staticmethod) else raw
        native = isinstance(value, property) or (value.__doc__ or "").startswith(f"{member}(")
        if native and member not in INHERITED and not member.startswith("_pybind11"):
            yield member, value


def test_the_stub_has_the_names_of_the_module() -> None:
    assert sorted(name for name in MODULE if not name.startswith("_")) == PUBLIC
    assert "__version__" in MODULE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_signatures_of_the_module(name: str) -> None:
    (definition,) = MODULE[name]
    stub, native = signature_of(definition), native_signature(getattr(_core, name))
    assert stub[:3] == native[:3]
    assert not stub.result or not native.result or stub.result == native.result
    assert ast.get_docstring(definition), f"{name} has no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_members_of_the_module(name: str) -> None:
    (definition,) = MODULE[name]
    stub = stub_definitions(definition.body)
    assert sorted(stub) == sorted(member for member, _ in members(name))
    for member, value in members(name):
        (first, *_) = stub[member]
        if isinstance(value, property):
            writable = isinstance(first, ast.AnnAssign)
            assert writable == (value.fset is not None), member
        elif member not in ("__eq__", "__hash__"):  # whose parameters Python prescribes
            assert signature_of(first)[:3] == native_signature(value)[:3], member


def test_constants_have_the_types_of_the_module() -> None:
    for name in set(PUBLIC) - set(CLASSES) - set(FUNCTIONS):
        (definition,) = MODULE[name]
        assert ast.unparse(definition.annotation) == f"Final[{type(getattr(_core, name)).__name__}]"


def test_build_info_has_the_keys_of_the_stub() -> None:
    (definition,) = MODULE["_BuildInfo"]
    assert list(stub_definitions(definition.body)) == list(_core.build_info())
