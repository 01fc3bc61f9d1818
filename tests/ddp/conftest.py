"""Fixtures of the hook's tests: processes that act as ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ddp.ranks import Ranks

pytest.importorskip("torch", reason="the hook needs torch")


@pytest.fixture(scope="session")
def _pools() -> Iterator[dict[int, Ranks]]:
    pools: dict[int, Ranks] = {}
    yield pools
    for pool in pools.values():
        if not pool.stopped:
            pool.stop()


@pytest.fixture
def ranks(_pools: dict[int, Ranks]) -> Callable[[int], Ranks]:
    """Return `ranks(n)`: n processes with a process group, shared by all tests."""

    def of_size(size: int) -> Ranks:
        if size not in _pools or _pools[size].stopped:
            _pools[size] = Ranks(size)
        return _pools[size]

    return of_size


@pytest.fixture
def fresh_ranks() -> Iterator[Callable[[int], Ranks]]:
    """Return `fresh_ranks(n)`: n processes for this test alone, which may kill them."""
    made: list[Ranks] = []

    def of_size(size: int) -> Ranks:
        made.append(Ranks(size))
        return made[-1]

    yield of_size
    for pool in made:
        if not pool.stopped:
            pool.stop()
