"""What the hook reads off a model: names, and what it must refuse."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from thinwire import _core
from thinwire.errors import InvalidArgument, NotBuilt

_COMPILED = "_orig_mod."


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def named_parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that DDP reduces, by names that do not depend on torch.compile."""
    ignored = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    found = ((name, p) for name, p in model.named_parameters() if p.requires_grad and name not in ignored)
    return {name.replace(_COMPILED, ""): p for name, p in found}


def check_model(model: nn.Module, device_types: Sequence[str]) -> None:
    """Raise InvalidArgument for sparse gradients, and what `check_device` raises for its parameters."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            raise InvalidArgument(
                f"{name or 'the model'} has sparse gradients, which cannot be compressed: use sparse=False"
            )
    for name, parameter in named_parameters(model).items():
        check_device(f"parameter {name}", parameter, device_types)


def real_view(parameter: torch.Tensor) -> torch.Tensor:
    """Return the parameter as DDP's buckets hold its gradient: a complex number is a pair of real ones."""
    return torch.view_as_real(parameter.detach()) if parameter.is_complex() else parameter


def matrix_shape(parameter: torch.Tensor) -> tuple[int, int]:
    """Return the rows and columns of a parameter of two dimensions or more, as its gradient lies in memory.

    A row belongs to one index of the outermost dimension: a convolution is (out, in * kernel).
    """
    real = real_view(parameter)
    rows = real.shape[_memory_order(real)[0]]
    return rows, real.numel() // max(rows, 1)


def in_order_of_dimensions(rows: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """View (n, columns) values, in each row as `matrix_shape` lays them out, by the parameter's dimensions.

    Returns (n, *the dimensions but the outermost in memory), whatever the memory format of the parameter.
    """
    real = real_view(parameter)
    inner = _memory_order(real)[1:]
    in_memory = rows.view(len(rows), *(real.shape[i] for i in inner))
    return in_memory.permute(0, *(1 + inner.index(i) for i in sorted(inner)))


def in_shape_of(matrix: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """View the (rows, columns) of `matrix_shape` in the parameter's shape."""
    return in_order_of_dimensions(matrix, parameter).movedim(0, _memory_order(real_view(parameter))[0])


def _memory_order(real: torch.Tensor) -> list[int]:
    """Return the dimensions as DDP's buckets lay out the gradient, outermost first."""
    if not is_dense(real):
        return list(range(real.dim()))
    strides, shape = real.stride(), real.shape
    return sorted(range(real.dim()), key=lambda i: (-strides[i], -shape[i], i))


def is_dense(tensor: torch.Tensor) -> bool:
    """Say whether the elements fill one stretch of memory, each once."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def check_device(subject: str, tensor: torch.Tensor, device_types: Sequence[str]) -> None:
    """Raise NotBuilt for a tensor on a device whose gradients are not reduced there, or not by this state."""
    place, kind = f"{subject} is on {tensor.device}", tensor.device.type
    if kind not in ("cpu", "cuda"):
        raise NotBuilt(f"{place}; gradients are reduced on the CPU and on CUDA devices")
    if kind not in device_types:
        raise NotBuilt(
            f"{place}; with transport='c10d' a HookState reduces gradients on one kind of device, that of the"
            f" model it was told of (model=), here {' and '.join(device_types)}: pass this one, or use"
            " transport='native'"
        )
    if kind == "cpu":
        return
    info = _core.build_info()
    if not info["cuda"]:
        raise NotBuilt(
            f"{place}, and this thinwire has no CUDA kernels ({info['cuda_reason']}): build it with"
            " THINWIRE_CUDA=ON, or train on the CPU"
        )
