"""The processes that act as ranks are those of the hook's tests."""

from ddp.conftest import _pools, fresh_ranks, ranks

__all__ = ["_pools", "fresh_ranks", "ranks"]
