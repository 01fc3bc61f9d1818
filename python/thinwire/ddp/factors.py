"""The factors of matrices under PowerSGD: what all ranks have learnt alike (`docs/powersgd.md`).

A step sends one factor of each matrix, worked out with the other, orthonormal one. The mean that arrives is
made orthonormal by every rank for itself, from the same bytes in the same order of operations, and becomes
current only if the step was finite.
"""

from __future__ import annotations

import struct

import torch

from thinwire import _core
from thinwire.ddp.names import Names
from thinwire.ddp.powersgd import FactorShape
from thinwire.ddp.shared import SharedArrays


class MatrixFactors:
    """Both factors of one matrix, orthonormal, and what the last step made of one of them.

    They lie on the device of the matrix.

    Attributes:
        shape: of the factors.
        native: where they lie, the same memory for life.
    """

    def __init__(self, shape: FactorShape, seed: int, device: torch.device) -> None:
        self.shape = shape
        left, right = shape.values(is_left=True), shape.values(is_left=False)
        self._kept = _memory(left + right, device)
        self._sides = {True: self._kept[:left], False: self._kept[left:]}
        self._next = _memory(max(left, right), device)
        self._renewed: bool | None = None
        self._key = _core.xxh3_64(struct.pack("<QQQQ", seed, shape.rank, shape.rows, shape.columns))
        addresses = (self._sides[is_left].data_ptr() for is_left in (True, False))
        self.native = _core.LowRank(shape.rows, shape.columns, shape.rank, *addresses)
        self.begin()

    @property
    def current(self) -> torch.Tensor:
        """The values of the left factor, rank x rows, and after them those of the right one."""
        return self._kept

    @property
    def in_memory(self) -> torch.Tensor:
        """The same: factors are saved as they lie in memory."""
        return self._kept

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._kept.nbytes + self._next.nbytes

    def begin(self) -> None:
        """Take the factors of the first step: random ones, the same on all ranks and devices."""
        for is_left, side in self._sides.items():
            first = _memory(len(side), _HOST)
            basis = _core.Basis(self._length(is_left), self.shape.rank, first.data_ptr())
            basis.begin(self._key, first.data_ptr())
            side.copy_(first)

    def learn(self, is_left: bool, mean: int) -> None:
        """Work out the next steps' factor from the mean at this address, on the CPU.

        Zero, or not finite, it is left.
        """
        rank, address = self.shape.rank, self._next.data_ptr()
        if _core.orthonormal_factor(self._length(is_left), rank, mean, address):
            self._renewed = is_left

    def learn_from(self, is_left: bool, matrix: int, dtype: int) -> None:
        """Work out the next steps' factor from a decoded gradient at address `matrix`, on the CPU."""
        mean = _memory(self.shape.values(is_left), _HOST)
        self.native.factor(is_left, matrix, dtype, 1.0, 0, 0, mean.data_ptr())
        self.learn(is_left, mean.data_ptr())

    def write_next(self, is_left: bool) -> int:
        """Return where to write the next steps' factor, which the next commit makes current."""
        self._renewed = is_left
        return self._next.data_ptr()

    def commit(self) -> None:
        """Make what the last step learnt current."""
        if self._renewed is not None:
            side = self._sides[self._renewed]
            side.copy_(self._next[: len(side)])
        self._renewed = None

    def discard(self) -> None:
        """Forget what the last step learnt."""
        self._renewed = None

    def _length(self, is_left: bool) -> int:
        return self.shape.rows if is_left else self.shape.columns


class Factors(SharedArrays[MatrixFactors]):
    """The factors of all matrices."""

    def __init__(self, names: Names, seed: int) -> None:
        super().__init__(names, "factor pair", "rank * (rows + columns) values")
        self._seed = seed

    def of_matrix(self, parameter: torch.Tensor, shape: FactorShape) -> MatrixFactors:
        """Return the factors of a parameter, made at its first use. See `of`."""
        return self.of(parameter, lambda: MatrixFactors(shape, self._seed, parameter.device))


_HOST = torch.device("cpu")


def _memory(values: int, device: torch.device) -> torch.Tensor:
    """Return memory for fp32 values, whatever torch's defaults are."""
    return torch.empty(values, dtype=torch.float32, device=device)
