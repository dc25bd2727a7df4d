"""Which kernel multiplies a few rows with a weight on a card, and with which block shape.

Why it exists: the choice is measured (tests/bench/weights_cuda.py), differs by shape, and is no business of a kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.weight_hopper import fits, multiply_many
from localmodel.engine.weight_planes_kernel import multiply_planes
from localmodel.engine.weight_row_kernel import multiply_row
from localmodel.engine.weight_row_planes_kernel import multiply_row_planes
from localmodel.engine.weight_rows_kernel import multiply_rows

LARGE = 8192
"""Rows of a weight that keep a card busy by themselves."""
HUGE = 100_000
"""Rows of a vocabulary."""
LEAST_MANY = {8: 33, 4: 17}
"""Rows of x from which on groups of warps take turns, on a card that has products for that."""
MOST_ROWS = 448
"""With more rows a weight is made bfloat16 first, for the library's dense product, on other cards."""
LEAST_PLANES = 97
"""Rows of x from which on 8 bits are multiplied in whole numbers, on other cards."""


def choose_row(bits: int) -> dict[str, int]:
    """Block shape for one row."""
    return {"rows": 1 if bits == 16 else 8, "ahead": 1, "warps": 4}


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


def choose_planes(rows: int, count: int) -> dict[str, int]:
    """Block shape for a product in whole numbers."""
    return {"rows": 128, "columns": 64, "tile": 128, "splits": 1 if count > LARGE else 4, "warps": 4, "stages": 3}


EXACT = {"rows": 32, "columns": 32, "tile": 64, "splits": 1, "warps": 4, "stages": 2}
"""For float32, which takes twice the memory and is for tests."""


def multiply_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [1, K] @ weight.T + bias of a 16-bit weight: 5 to 19 % faster than cuBLAS on an H100."""
    return multiply_row(x, weight, bias, **choose_row(16))


def multiply_rounded(x: Tensor, weight: QuantizedWeight, bias: Tensor | None) -> Tensor:
    """x [M, K] @ weight.T + bias."""
    rows, size = x.shape
    count, bits, group = weight.shape[0], weight.bits, weight.group
    fast = x.dtype == torch.bfloat16
    if not rows:  # a part of a prompt of which no token is chosen: a kernel would be compiled for nothing
        return x.new_empty(0, count)
    if rows >= LEAST_MANY[bits] and fits(x, weight.data, bits, group):
        return multiply_many(x, weight.data, weight.scales, weight.minima, bias, bits)
    if rows > MOST_ROWS:
        return F.linear(x, weight.dense(), bias)
    if rows == 1 and fast and size % 16 == 0:
        tables = weight.data, weight.scales, weight.minima
        return multiply_row_planes(x, *tables, bias, bits, group, overlap="early" if bits == 4 else "late", **choose_row(bits))
    if bits == 8 and rows >= LEAST_PLANES and size % 16 == 0 and fast:
        return multiply_planes(x, weight.data, weight.scales, bias, **choose_planes(rows, count))
    shape = choose_rows(rows, count, bits) if fast else EXACT
    return multiply_rows(x, weight.data, weight.scales, weight.minima, bias, bits, group, **shape)
