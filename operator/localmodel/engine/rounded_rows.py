"""Dense rows with the values that a quantized weight would have: what a CPU multiplies.

Why it exists: there the same model says the same as on a card, and torch's dense products are the fastest. It knows no bits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localmodel.engine.rounding import Groups, dense_rows, round_nearest, round_rows

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class RoundedRows:
    """Stands for rows of a tensor that get the values which a quantized weight would have."""

    target: Tensor
    bits: int
    group: int

    @property
    def shape(self) -> torch.Size:
        return self.target.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.target.dtype

    @property
    def nbytes(self) -> int:
        return self.target.nbytes

    def numel(self) -> int:
        return self.target.numel()

    def copy_(self, source: Tensor, columns: slice = slice(None)) -> None:
        """Rounds `source` and takes `columns` of it."""
        for at in range(0, source.shape[0], ROWS_AT_ONCE):
            part = source[at : at + ROWS_AT_ONCE]
            part, dtype = part.to(self.target.device).float(), self.target.dtype
            if self.bits == 4:
                rounded = round_nearest(part[:, columns], self.group, dtype).dense()
            else:
                rounded = dense_rows(*round_rows(part, dtype))[:, columns]
            self.target[at : at + ROWS_AT_ONCE] = rounded

    def store(self, groups: Groups) -> None:
        self.target.copy_(groups.dense())
