"""Shared bases: what all ranks have learnt alike of each matrix's gradients (`docs/basis.md`).

One array of `rank` vectors a matrix. Nothing of it travels: after every step each rank learns from the mean
gradient, which is the same on all. Like a residual under a loss scaler, what a step learnt becomes current
only if the step was finite.
"""

from __future__ import annotations

import struct

import torch

from thinwire import _core
from thinwire.ddp.model import in_order_of_dimensions
from thinwire.ddp.names import Names
from thinwire.ddp.plan import BasisShape
from thinwire.ddp.shared import SharedArrays


class MatrixBasis:
    """The basis of one matrix: the vectors that frames are coded along, and those of the next step.

    They lie on the device of the parameter.

    Attributes:
        vectors: (rank, columns) fp32, the same memory for life.
        native: the vectors in the form the frames' layouts take.
    """

    def __init__(self, parameter: torch.Tensor, shape: BasisShape, seed: int) -> None:
        self._parameter, device = parameter, parameter.device
        self.vectors = torch.empty(shape.rank, shape.columns, dtype=torch.float32, device=device)
        self.native = _core.Basis(shape.columns, shape.rank, self.vectors.data_ptr())
        self._key = _core.xxh3_64(struct.pack("<QQQ", seed, shape.rank, shape.columns))
        self._next = torch.empty_like(self.vectors)
        self._moments = torch.empty_like(self.vectors if device.type == "cpu" else self.vectors[:0])
        self._turned = False
        self.begin()

    @property
    def current(self) -> torch.Tensor:
        """The vectors, by the parameter's dimensions: see `in_order_of_dimensions`."""
        return in_order_of_dimensions(self.vectors, self._parameter)

    @property
    def in_memory(self) -> torch.Tensor:
        """The vectors, (rank, columns)."""
        return self.vectors

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.vectors.nbytes + self._next.nbytes + self._moments.nbytes

    def begin(self) -> None:
        """Take the vectors of the first step: random ones, the same on all ranks and devices."""
        first = torch.empty(self.vectors.shape, dtype=torch.float32, device="cpu")
        self.native.begin(self._key, first.data_ptr())
        self.vectors.copy_(first)

    def learn(self, matrix: int, dtype: int, rows: int) -> None:
        """Work out the next step's vectors from a decoded gradient at address `matrix`, on the CPU."""
        self._moments.zero_()
        self.native.learn(matrix, dtype, rows, self._moments.data_ptr())
        self.native.turn(self._moments.data_ptr(), self.write_next())

    def write_next(self) -> int:
        """Return where to write the next step's vectors, which the next commit makes current."""
        self._turned = True
        return self._next.data_ptr()

    def commit(self) -> None:
        """Make what the last step learnt current."""
        if self._turned:
            self.vectors.copy_(self._next)
        self._turned = False

    def discard(self) -> None:
        """Forget what the last step learnt."""
        self._turned = False


class Bases(SharedArrays[MatrixBasis]):
    """The bases of all matrices."""

    def __init__(self, names: Names, seed: int) -> None:
        super().__init__(names, "basis", "option basis: vectors, then the shape of a row")
        self._seed = seed

    def of_matrix(self, parameter: torch.Tensor, shape: BasisShape) -> MatrixBasis:
        """Return the basis of a parameter, made at its first use. See `of`."""
        return self.of(parameter, lambda: MatrixBasis(parameter, shape, self._seed))
