"""What has arrived and is handed to the optimizer later (`docs/basis.md`, "Handed over in parts").

A codec of few entries delivers a coordinate seldom, and then much at once. Spread over some steps the same
sum suits an optimizer that divides by the size of what it sees. All ranks keep the same bits: they work them
out from the same decoded gradient.
"""

from __future__ import annotations

import torch

from thinwire.ddp.bases import MatrixBasis
from thinwire.ddp.names import Names
from thinwire.ddp.shared import SharedArrays


class Pending:
    """What one matrix's steps have left for later: (rows, columns) bf16, as the gradient lies in memory.

    It lies on the device of the matrix.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self._kept, self._next = torch.zeros(2, rows, columns, dtype=torch.bfloat16, device=device).unbind()
        self._spread = False

    @property
    def current(self) -> torch.Tensor:
        """What the next step adds."""
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
        super().__init__(names, "pending part", "rows x columns")

    def of_matrix(self, parameter: torch.Tensor, rows: int, columns: int) -> Pending:
        """Return what is kept for a parameter, nothing at its first use. See `of`."""
        return self.of(parameter, lambda: Pending(rows, columns, parameter.device))
