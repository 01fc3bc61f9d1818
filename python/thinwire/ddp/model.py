"""What the hook reads off a model: names, and what it must refuse."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

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


def check_model(model: nn.Module) -> None:
    """Raise InvalidArgument for sparse gradients, NotBuilt for parameters that are not on the CPU."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            raise InvalidArgument(
                f"{name or 'the model'} has sparse gradients, which cannot be compressed: use sparse=False"
            )
    for name, parameter in named_parameters(model).items():
        check_device(f"parameter {name}", parameter)


def real_view(parameter: torch.Tensor) -> torch.Tensor:
    """Return the parameter as DDP's buckets hold its gradient: a complex number is a pair of real ones."""
    return torch.view_as_real(parameter.detach()) if parameter.is_complex() else parameter


def check_device(subject: str, tensor: torch.Tensor) -> None:
    """Raise NotBuilt for a tensor that is not on the CPU."""
    if tensor.device.type != "cpu":
        raise NotBuilt(f"{subject} is on {tensor.device}; this release reduces gradients on the CPU only")
