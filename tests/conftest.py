"""Fixtures that every test module can use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


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
