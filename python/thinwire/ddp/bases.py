"""Shared bases: what all ranks have learnt alike of each matrix's gradients (`docs/basis.md`).

One array of `rank` vectors a matrix, found by the Parameter object while training and by name in a state
dict. Nothing of it travels: after every step each rank learns from the mean gradient, which is the same on
all. Like a residual under a loss scaler, what a step learnt becomes current only if the step was finite.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from thinwire import _core
from thinwire.ddp.names import Names, some
from thinwire.ddp.plan import BasisShape
from thinwire.errors import InvalidArgument


class MatrixBasis:
    """The basis of one matrix: the vectors that frames are coded along, and those of the next step.

    Attributes:
        vectors: (rank, columns) fp32, the same memory for life.
        native: the vectors in the form the frames' layouts take.
    """

    def __init__(self, shape: BasisShape, seed: int) -> None:
        self.vectors = torch.empty(shape.rank, shape.columns)
        self.native = _core.Basis(shape.columns, shape.rank, self.vectors.data_ptr())
        self._key = _core.xxh3_64(struct.pack("<QQQ", seed, shape.rank, shape.columns))
        self._next = torch.empty_like(self.vectors)
        self._moments = torch.empty_like(self.vectors)
        self._turned = False
        self.begin()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return 3 * self.vectors.nbytes

    def begin(self) -> None:
        """Take the vectors of the first step: random ones, the same on all ranks."""
        self.native.begin(self._key, self.vectors.data_ptr())

    def learn(self, matrix: int, dtype: int, rows: int) -> None:
        """Work out the next step's vectors from a decoded gradient at address `matrix`."""
        self._moments.zero_()
        self.native.learn(matrix, dtype, rows, self._moments.data_ptr())
        self.native.turn(self._moments.data_ptr(), self._next.data_ptr())
        self._turned = True

    def commit(self) -> None:
        """Make what the last step learnt current."""
        if self._turned:
            self.vectors.copy_(self._next)
        self._turned = False

    def discard(self) -> None:
        """Forget what the last step learnt."""
        self._turned = False


@dataclass(frozen=True)
class Lesson:
    """What a bucket teaches about one of its matrices: where the gradient lies, in bytes, and its rows."""

    basis: MatrixBasis
    offset: int
    rows: int


class Bases:
    """The bases of one rank, equal to every other rank's."""

    def __init__(self, names: Names, seed: int) -> None:
        self._names, self._seed = names, seed
        self._of: dict[torch.Tensor, MatrixBasis] = {}
        self._loaded: dict[str, torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(basis.nbytes for basis in self._of.values())

    def of(self, parameter: torch.Tensor, shape: BasisShape) -> MatrixBasis:
        """Return the basis of a parameter, made at its first use.

        Raises InvalidArgument if a loaded state has one of another shape.
        """
        basis = self._of.get(parameter)
        if basis is None:
            basis = MatrixBasis(shape, self._seed)
            name = self._names.of(parameter)
            if name in self._loaded:
                _check_shape(name, self._loaded[name], basis.vectors)
                basis.vectors.copy_(self._loaded.pop(name))
            self._of[parameter] = basis
        return basis

    def commit(self) -> None:
        """Make what the last step learnt current."""
        for basis in self._of.values():
            basis.commit()

    def discard(self) -> None:
        """Forget what the last step learnt: it was not finite, or failed."""
        for basis in self._of.values():
            basis.discard()

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of the vectors by name of their parameter."""
        used = {self._names.of(parameter): basis.vectors.clone() for parameter, basis in self._of.items()}
        return {**{name: entry.clone() for name, entry in self._loaded.items()}, **used}

    def check(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Raise InvalidArgument if `load(entries)` would not fit by name and shape. Nothing always fits."""
        known = {self._names.of(parameter): basis for parameter, basis in self._of.items()}
        missing = [name for name in known if name not in entries]
        if entries and missing:
            raise InvalidArgument(f"the state has no basis for parameter {some(missing)}")
        for name, basis in known.items():
            if name in entries:
                _check_shape(name, entries[name], basis.vectors)

    def load(self, entries: Mapping[str, torch.Tensor]) -> None:
        """Take up saved vectors; without an entry those of the first step. Unused ones wait for their use."""
        self.check(entries)
        self.discard()
        loose = dict(entries)
        for parameter, basis in self._of.items():
            entry = loose.pop(self._names.of(parameter), None)
            if entry is not None:
                basis.vectors.copy_(entry)
            else:
                basis.begin()
        self._loaded = loose


def _check_shape(name: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    if found.shape != wanted.shape:
        raise InvalidArgument(
            f"the basis of {name} is {tuple(found.shape)} in the state, {tuple(wanted.shape)} here"
            " (option basis: vectors x columns)"
        )
