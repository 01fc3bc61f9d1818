"""Residuals: what a parameter's frames have not delivered yet, kept for the next step.

One array a parameter, in the memory order of its gradient, found by the Parameter object while training and
by name in a state dict. With a loss scaler there are two arrays: a step reads one and writes the other, and
only a step that was finite on all ranks makes the written one current.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

import torch

from thinwire.ddp.model import in_shape_of, is_dense, matrix_shape, real_view
from thinwire.ddp.names import Names, some
from thinwire.ddp.pending import PENDING, SHAPE_OF_PENDING
from thinwire.ddp.shared import misfit
from thinwire.errors import InvalidArgument

_log = logging.getLogger("thinwire.ddp")


class Residuals:
    """The residual arrays of one rank.

    Args:
        dtype: torch.float32 or torch.bfloat16.
        transactional: keep two arrays a parameter, see `commit`.
        names: of parameters.
        kept: all parameters that shall have a residual. None: a parameter gets its residual at first use.
    """

    def __init__(
        self, dtype: torch.dtype, transactional: bool, names: Names, kept: Sequence[torch.Tensor] | None
    ) -> None:
        self.dtype = dtype
        self.transactional = transactional
        self._names = names
        self._is_complete = kept is not None
        self._arrays: dict[torch.Tensor, tuple[torch.Tensor, ...]] = {}
        self._loaded: dict[str, torch.Tensor] = {}
        self._current = 0
        for parameter in kept or ():
            self._register(parameter)

    @property
    def source(self) -> int:
        """Which array of `of` a step reads."""
        return self._current

    @property
    def target(self) -> int:
        """Which array of `of` a step writes."""
        return self._current ^ self.transactional

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for arrays in self._arrays.values() for array in arrays)

    def of(self, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a parameter's two arrays, without a scaler the same twice."""
        if parameter not in self._arrays:
            self._register(parameter)
        arrays = self._arrays[parameter]
        return arrays[0], arrays[-1]

    def commit(self, served: Collection[torch.Tensor]) -> None:
        """Make what the last step wrote current; it wrote those of parameters that were `served`."""
        for parameter, arrays in self._arrays.items() if self.transactional else ():
            if parameter not in served:
                arrays[self.target].copy_(arrays[self._current])
        self._current = self.target

    def rescale(self, factor: float) -> None:
        """Multiply all current residuals, because the loss scale changed by `factor`."""
        for arrays in self._arrays.values():
            arrays[self._current].mul_(factor)
        for entry in self._loaded.values():
            entry.mul_(factor)

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of the current residuals by name, each in its parameter's shape."""
        kept = {
            self._names.of(p): arrays[self._current].detach().clone() for p, arrays in self._arrays.items()
        }
        return {**{name: entry.clone() for name, entry in self._loaded.items()}, **kept}

    def check(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Raise InvalidArgument if `load(entries)` would not fit by name and shape. Nothing always fits."""
        if not entries or not (self._arrays or self._is_complete):
            return
        known = {self._names.of(parameter): parameter for parameter in self._arrays}
        missing = [name for name in known if name not in entries]
        if missing:
            raise InvalidArgument(f"the state has no residual for parameter {some(missing)}")
        unknown = [name for name in entries if name not in known]
        if unknown:
            raise InvalidArgument(f"the state has residuals for {some(unknown)}, which this model has not")
        for name, parameter in known.items():
            found, wanted = tuple(entries[name].shape), tuple(real_view(parameter).shape)
            if found != wanted:
                raise InvalidArgument(f"the residual of {name} has shape {found}, the parameter {wanted}")

    def load(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Replace all residuals, by zeros where there is no entry. Unused parameters take theirs later."""
        self.check(entries)
        loose = {name: entry.detach().to(self.dtype, copy=True) for name, entry in entries.items()}
        for parameter, arrays in self._arrays.items():
            entry = loose.pop(self._names.of(parameter), None)
            if entry is None:
                arrays[self._current].zero_()
            else:
                arrays[self._current].copy_(entry)
        self._loaded = loose

    def check_parts(self, parts: Mapping[str, torch.Tensor]) -> None:
        """Raise InvalidArgument if `take_in(parts)` would not fit by shape."""
        for parameter in self._arrays:
            part = parts.get(name := self._names.of(parameter))
            if part is not None and _as_gradient(part, parameter) is None:
                raise misfit(f"{PENDING} of {name}", part, real_view(parameter), SHAPE_OF_PENDING)

    def take_in(self, parts: Mapping[str, torch.Tensor]) -> None:
        """Add what waits to be handed over. Without a residual to take it, it is lost, which is logged."""
        known = {self._names.of(p): (p, arrays[self._current]) for p, arrays in self._arrays.items()}
        loose = {name: (entry, entry) for name, entry in self._loaded.items()}
        homes, lost = {**loose, **known}, []
        for name, waiting in parts.items():
            like, residual = homes.get(name, (None, None))
            part = None if like is None else _as_gradient(waiting, like)
            if part is None or residual is None:
                lost.append(name)
            else:
                residual.add_(part.to(residual.device))
        if lost:
            _log.warning("what waits for %s is dropped: there is no residual to take it", some(lost))

    def _register(self, parameter: torch.Tensor) -> None:
        name = self._names.of(parameter)
        first = residual_like(parameter, self.dtype)
        if name in self._loaded:
            first.copy_(self._loaded.pop(name))
        elif self._loaded:
            raise InvalidArgument(
                f"the loaded state has no residual for parameter {name}, but for {some(self._loaded)}"
            )
        second = [residual_like(parameter, self.dtype)] if self.transactional else []
        self._arrays[parameter] = (first, *second) if self._current == 0 else (*second, first)


def _as_gradient(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """Return a pending part in the shape of a parameter's gradient; None if it is another's.

    States before version 5 have it as `matrix_shape` says.
    """
    if part.shape == real_view(like).shape:
        return part
    is_matrix = like.dim() > 1 and tuple(part.shape) == matrix_shape(like)
    return in_shape_of(part.contiguous(), like) if is_matrix else None


def residual_like(parameter: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return zeros with the shape, strides and device that DDP gives this parameter's gradient in a bucket.

    These are the parameter's own strides if it fills its memory without gaps, else contiguous ones.
    """
    real = real_view(parameter)
    if is_dense(real):
        return torch.empty_strided(real.shape, real.stride(), dtype=dtype, device=real.device).zero_()
    return torch.zeros(real.shape, dtype=dtype, device=real.device)
