"""Arrays that are no NumPy arrays, reduced to one protocol each."""

from __future__ import annotations

from typing import Any


class OnlyDlpack:
    """An array in host memory that can do nothing but DLPack."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __dlpack__(self, **options: Any) -> Any:
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()


class OnlyDlpackElsewhere:
    """An array on a device of the given DLPack type."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("nobody can do anything with it")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


class CudaArray:
    """An array that claims to lie on a GPU, at an address where nothing is."""

    def __init__(self, *shape: int, **more: Any) -> None:
        usual = {"shape": shape, "typestr": "<f4", "data": (0xDEAD0000, False), "version": 3}
        self.__cuda_array_interface__ = usual | more
