"""Fixtures that every test module can use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

with contextlib.suppress(ImportError):  # `make gpu` has what its machine has
    from hypothesis import settings

    settings.register_profile("tests", deadline=None)  # a busy machine is no failure
    settings.load_profile("tests")

if TYPE_CHECKING:
    from comm_ranks import Nursery, Start

TESTS = Path(__file__).parent
ALONE = (
    "ddp/",
    "gpu/",
    "pool/",
    "test_bench_",
    "test_comm",
    "test_demo",
    "test_docs.",
    "test_doctor",
    "test_shaped",
)
"""Where tests start ranks that keep each other waiting, measure times or memory, or shape the network."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that must not run beside others."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(ALONE):
            item.add_marker(pytest.mark.alone)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `target` once for each CPU target of this machine."""
    if "target" in metafunc.fixturenames:
        from thinwire import _core

        metafunc.parametrize("target", _core.targets(), indirect=True)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a CPU target that is forced during the test."""
    from thinwire import _core

    before = _core.active_target()
    _core.force_target(request.param)
    yield request.param
    _core.force_target(before)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Start]:
    """Start ranks that are threads, or find those that another test of the module has started."""
    from comm_ranks import Threads

    known: dict[str, Threads] = {}

    def start(size: int, **options: Any) -> Threads:
        key = repr((size, sorted(options.items())))
        if key not in known:
            known[key] = Threads(size, **({"links": "inproc"} | options))
        return known[key]

    yield start
    for each in known.values():
        each.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Fork ranks that are processes."""
    from comm_ranks import Nursery

    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def namespaces_allowed() -> None:
    """Skip where ranks cannot have network namespaces, with the reason."""
    from thinwire.cli._shaped import namespaces_refused

    refusal = namespaces_refused()
    if refusal is not None:
        pytest.skip(refusal)
