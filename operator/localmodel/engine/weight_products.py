"""Which kernel multiplies a few rows with a weight on a card, and with which block shape.

Why it exists: the choice is measured (tests/bench/weights_cuda.py), differs by shape, and is no business of a kernel.
"""

import torch
from torch import Tensor

from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.weight_kernels import multiply_row, multiply_rows

LARGE = 8192
"""Rows of a weight that keep a card busy by themselves."""
MOST_ROWS = 448
"""With more rows a weight is made bfloat16 first, for the library's dense product."""


def too_many(rows: int) -> bool:
    return rows > MOST_ROWS


def choose_row(count: int, bits: int) -> dict[str, int]:
    """Block shape for one row and a weight of `count` rows."""
    if bits == 4 and count > LARGE:
        return {"rows": 4, "chunks": 32, "warps": 1}
    return {"rows": 4 if count > LARGE else 2, "chunks": 128, "warps": 4}


def choose_rows(rows: int, count: int, bits: int) -> dict[str, int]:
    """Block shape for `rows` > 1."""
    large = count > LARGE
    if rows <= 32:
        columns = 16 if rows <= 16 else 32
        shape = {"rows": 32, "splits": 1 if large else 4} if bits == 8 else {"rows": 64, "splits": 1 if large else 8}
        return {**shape, "columns": columns, "tile": 128, "warps": 4, "stages": 4}
    if rows <= 64 and bits == 8:
        return {"rows": 64, "columns": 64, "tile": 128, "splits": 1 if large else 4, "warps": 4, "stages": 4}
    if rows <= 64:
        return {"rows": 128, "columns": 64, "tile": 128, "splits": 2 if large else 8, "warps": 8, "stages": 4}
    if rows <= 128:
        return {"rows": 64, "columns": 128, "tile": 64, "splits": 1 if large else 4, "warps": 4, "stages": 3}
    return {"rows": 64, "columns": 256, "tile": 64, "splits": 1 if large else 4, "warps": 4, "stages": 3}


EXACT = {"rows": 32, "columns": 32, "tile": 64, "splits": 1, "warps": 4, "stages": 2}
"""For float32, which takes twice the memory and is for tests."""


def multiply_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [1, K] @ weight.T + bias of a 16-bit weight: 5 to 19 % faster than cuBLAS on an H100."""
    empty = weight.new_empty(0)
    return multiply_row(x, weight, empty, empty, bias, 16, 0, **choose_row(weight.shape[0], 16))


def multiply_few(x: Tensor, weight: QuantizedWeight, bias: Tensor | None) -> Tensor:
    """x [M, K] @ weight.T + bias, M <= MOST_ROWS."""
    parts = weight.data, weight.scales, weight.minima, bias, weight.bits, weight.group
    if x.shape[0] == 1 and x.shape[1] % 16 == 0:
        return multiply_row(x, *parts, **choose_row(weight.shape[0], weight.bits))
    shape = EXACT if x.dtype == torch.float32 else choose_rows(x.shape[0], weight.shape[0], weight.bits)
    return multiply_rows(x, *parts, **shape)
