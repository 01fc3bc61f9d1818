"""What has arrived and is handed to the optimizer later (`docs/basis.md`, "Handed over in parts").

A codec of few entries delivers a coordinate seldom, and then much at once. Spread over some steps the same
sum suits an optimizer that divides by the size of what it sees. All ranks keep the same bits: they work them
out from the same decoded gradient.
"""

from __future__ import annotations

import torch

from thinwire.ddp.bases import MatrixBasis
from thinwire.ddp.model import in_shape_of, matrix_shape
from thinwire.ddp.names import Names
from thinwire.ddp.shared import SharedArrays

PENDING, SHAPE_OF_PENDING = "pending part", "the shape of the gradient"
"""What it is called in messages, and how its shape comes about."""


class Pending:
    """What one parameter's steps have left for later: (rows, columns) bf16, as the gradient lies in memory.

    It lies on the device of the parameter.
    """

    def __init__(self, parameter: torch.Tensor) -> None:
        self._parameter = parameter
        shape = (2, *matrix_shape(parameter))
        self._kept, self._next = torch.zeros(shape, dtype=torch.bfloat16, device=parameter.device).unbind()
        self._spread = False

    @property
    def current(self) -> torch.Tensor:
        """What the next step adds, in the shape of the gradient."""
        return in_shape_of(self._kept, self._parameter)

    @property
    def in_memory(self) -> torch.Tensor:
        """The same, (rows, columns)."""
        return self._kept

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self._kept.nbytes + self._next.nbytes

    def begin(self) -> None:
        """Keep nothing."""
        self._kept.zero_()

    def spread(self, basis: MatrixBasis, matrix: int, dtype: int, share: float) -> None:
        """Leave in the gradient at `matrix` a share of what both have beside the basis, on the CPU."""
        basis.native.spread(matrix, dtype, len(self._kept), share, *self.write_next())

    def write_next(self) -> tuple[int, int]:
        """Return where what is kept lies, and where to write what the next commit makes current."""
        self._spread = True
        return self._kept.data_ptr(), self._next.data_ptr()

    def commit(self) -> None:
        """Make what the last step left current."""
        if self._spread:
            self._kept, self._next = self._next, self._kept
        self._spread = False

    def discard(self) -> None:
        """Forget what the last step left."""
        self._spread = False


class Pendings(SharedArrays[Pending]):
    """What is kept for all matrices."""

    def __init__(self, names: Names) -> None:
        super().__init__(names, PENDING, SHAPE_OF_PENDING)

    def of_matrix(self, parameter: torch.Tensor) -> Pending:
        """Return what is kept for a parameter, nothing at its first use. See `of`."""
        return self.of(parameter, lambda: Pending(parameter))
