"""Tensors as bytes, and bytes as tensors."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from thinwire.errors import FormatVersion, InvalidArgument

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_HUGE_BYTES = 2 << 20
_FLOAT_BYTES = (2, 4)


class Spec(NamedTuple):
    """What makes a tensor of bytes. `order` lists the dimensions from the outermost in memory inwards."""

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * dtype_named(self.dtype).itemsize


def dtype_named(name: str) -> torch.dtype:
    """The dtype of a name such as "bfloat16". Raises FormatVersion where this torch has none."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise FormatVersion(
            f"the checkpoint has a tensor of dtype {name}; torch {torch.__version__} has none"
        )
    return found


def element_size(spec: Spec) -> int | None:
    """Bytes of an element, where it is a float whose bytes are worth taking apart for compression."""
    dtype = dtype_named(spec.dtype)
    return dtype.itemsize if dtype.is_floating_point and dtype.itemsize in _FLOAT_BYTES else None


def spec_of(tensor: torch.Tensor) -> Spec:
    """How `dense` lays out this tensor."""
    return Spec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _order(tensor))


def check(tensor: torch.Tensor, path: str) -> None:
    """Raise InvalidArgument, naming the key, for a tensor whose values are not plain memory."""
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise InvalidArgument(
            f"{path} is a {type(tensor).__name__}; save its plain tensors, or use "
            "torch.distributed.checkpoint with thinwire.store.StorageWriter"
        )
    kind = (
        "quantized"
        if tensor.is_quantized
        else "nested"
        if tensor.is_nested
        else "on the meta device"
        if tensor.is_meta
        else f"of layout {tensor.layout}"
        if tensor.layout != torch.strided
        else ""
    )
    if kind:
        raise InvalidArgument(f"{path} is {kind}; a checkpoint takes dense tensors that have values")


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """A flat uint8 tensor of the elements in memory order: the tensor's own memory where that has no gaps."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain.permute(_order(plain)).contiguous().reshape(-1).view(torch.uint8)


def direct(tensor: torch.Tensor, spec: Spec) -> Bytes | None:
    """The memory of a tensor to fill with bytes laid out by `spec`; None where it is laid out otherwise."""
    plain = tensor.detach()
    if plain.device.type != "cpu" or plain.is_conj() or plain.is_neg():
        return None
    ordered = plain.permute(spec.order)
    if not ordered.is_contiguous():
        return None
    return host_bytes(ordered.reshape(-1).view(torch.uint8))


def host_bytes(flat: torch.Tensor) -> Bytes:
    """The memory of a flat uint8 tensor on the host."""
    array: Bytes = flat.numpy()
    return array


def from_bytes(memory: Bytes, spec: Spec) -> torch.Tensor:
    """A tensor on that memory, of `spec.size` bytes."""
    ordered = [spec.shape[axis] for axis in spec.order]
    dtype = dtype_named(spec.dtype)
    flat = torch.from_numpy(memory).view(dtype) if len(memory) else torch.empty(0, dtype=dtype)
    return flat.reshape(ordered).permute(_inverse(spec.order))


def allocate(size: int) -> Bytes:
    """Memory for a tensor; large ones ask for huge pages, which take far fewer page faults."""
    if size < 2 * _HUGE_BYTES:
        return np.empty(size, np.uint8)
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _order(tensor: torch.Tensor) -> tuple[int, ...]:
    """Dimensions by descending stride where that makes the tensor contiguous, else as they are."""
    plain = tuple(range(tensor.dim()))
    if tensor.is_contiguous():
        return plain
    order = tuple(sorted(plain, key=lambda axis: -tensor.stride()[axis]))
    return order if tensor.permute(order).is_contiguous() else plain


def _inverse(order: Sequence[int]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]
