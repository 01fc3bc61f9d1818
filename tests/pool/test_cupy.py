"""CuPy on a pool's memory. A stand-in takes its place: it has the interface of cupy.cuda's pinned memory."""

from __future__ import annotations

import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import thinwire as tw


class PinnedMemoryPointer:
    """As in cupy/cuda/pinned_memory.pyx: an address in some memory, which it keeps."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset

    def __add__(self, offset: int) -> PinnedMemoryPointer:
        return PinnedMemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def size(self) -> int:
        return int(self.mem.size - (self.ptr - self.mem.ptr))

    def bytes(self) -> Any:
        """What its buffer protocol gives."""
        interface = {"shape": (self.size(),), "typestr": "|u1", "data": (self.ptr, False), "version": 3}
        return np.asarray(SimpleNamespace(__array_interface__=interface, kept=self))


class PinnedMemoryPool:
    """CuPy's pool, on top of an allocator: it keeps what it was given, by size."""

    def __init__(self, allocator: Any) -> None:
        self.allocator, self.unused = allocator, {}  # type: ignore[var-annotated]

    def malloc(self, size: int) -> PinnedMemoryPointer:
        size = -(-size // 512) * 512
        kept = self.unused.get(size)
        return PinnedMemoryPointer(kept.pop() if kept else self.allocator(size).mem, 0)

    def free(self, pointer: PinnedMemoryPointer) -> None:
        self.unused.setdefault(pointer.mem.size, []).append(pointer.mem)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of that name."""
    module: Any = ModuleType("cupy")
    state: dict[str, Any] = {}

    def set_pinned_memory_allocator(allocator: Any = None) -> None:
        state["allocator"] = allocator

    def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
        found = state["allocator"](size)
        assert isinstance(found, PinnedMemoryPointer)  # CuPy's function is typed
        return found

    module.cuda = SimpleNamespace(
        PinnedMemoryPointer=PinnedMemoryPointer,
        set_pinned_memory_allocator=set_pinned_memory_allocator,
        alloc_pinned_memory=alloc_pinned_memory,
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def live(pool: tw.HostPool) -> int:
    return int(pool.stats().as_dict()["live"])


def test_a_pointer_is_of_the_arrays_memory_and_keeps_it(cupy):
    pool = tw.HostPool(limit="16MiB")
    a = pool.empty((10, 10), "float32")
    a.numpy()[:] = 1
    pointer = a.cupy()
    assert (pointer.ptr, pointer.size(), int(pointer.mem)) == (a.address, 400, a.address)
    del a
    gc.collect()
    assert live(pool) >= 400
    assert (pointer.bytes().view(np.float32) == 1).all()
    rest = pointer + 200
    del pointer
    assert rest.size() == 200
    assert live(pool) >= 400
    del rest
    assert live(pool) == 0


def test_cupy_stages_its_copies_in_the_pool(cupy):
    pool = tw.HostPool(limit="16MiB")
    cupy.cuda.set_pinned_memory_allocator(pool.cupy_allocator())
    pointers = [cupy.cuda.alloc_pinned_memory(size) for size in (1, 512, 100_000)]
    assert [pointer.size() for pointer in pointers] == [1, 512, 100_000]
    assert live(pool) >= 100_513
    pointers.clear()
    assert live(pool) == 0
    first = cupy.cuda.alloc_pinned_memory(100_000).ptr
    assert cupy.cuda.alloc_pinned_memory(100_000).ptr == first


def test_cupys_own_pool_can_stand_on_ours(cupy):
    pool = tw.HostPool(limit="16MiB")
    above = PinnedMemoryPool(pool.cupy_allocator())
    pointer = above.malloc(1000)
    first = pointer.ptr
    above.free(pointer)
    del pointer
    assert live(pool) >= 1024
    assert above.malloc(1000).ptr == first


def test_a_limit_is_kept(cupy):
    pool = tw.HostPool(limit="8MiB")
    cupy.cuda.set_pinned_memory_allocator(pool.cupy_allocator())
    with pytest.raises(tw.PoolExhausted):
        cupy.cuda.alloc_pinned_memory(64 << 20)


def test_without_cupy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ModuleNotFoundError, match="needs cupy, which is not installed: pip install"):
        tw.HostPool(limit="1MiB").empty(4).cupy()
