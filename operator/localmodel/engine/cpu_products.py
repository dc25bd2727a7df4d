"""Products with weights in bfloat16 in C, on processors that have instructions for them.

Why it exists: `cpu_products.c` takes addresses and believes what it is told; here is what makes that true. Where `serves` says
no, weights are oneDNN's (`packed_weight`), as they are on processors with AMX, which multiply whole tiles.

Blocks: int32 [N / 16, K / 2, 16], of 16 outputs, which are zero where there are fewer; each number is a pair of inputs.
"""

import torch
from torch import Tensor

from localmodel.engine import cpu_kernels

OUTPUTS = 16
"""Of a block."""
INPUTS = 8
"""A row must be a multiple of."""
MORE_ROWS = 7
"""That a copy of x in pairs may have beside its own."""


def serves(dtype: torch.dtype, columns: int) -> bool:
    """Whether a weight with rows of so many `columns` can be multiplied with."""
    return dtype == torch.bfloat16 and columns % INPUTS == 0 and cpu_kernels.multiplies() and not _has_tiles()


def _has_tiles() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def to_blocks(weight: Tensor) -> Tensor:
    """[N, K] -> blocks."""
    pairs = weight.view(torch.int32)
    rows, columns = pairs.shape
    whole, rest = divmod(rows, OUTPUTS)
    blocks = torch.zeros((whole + bool(rest), columns, OUTPUTS), dtype=torch.int32)
    blocks[:whole] = pairs[: whole * OUTPUTS].view(whole, OUTPUTS, columns).transpose(1, 2)
    if rest:
        blocks[whole, :, :rest] = pairs[whole * OUTPUTS :].T
    return blocks


def to_rows(blocks: Tensor, rows: int) -> Tensor:
    """Blocks -> [N, K], a copy."""
    return blocks.transpose(1, 2).flatten(0, 1)[:rows].contiguous().view(torch.bfloat16)


def take_rows(blocks: Tensor, ids: Tensor) -> Tensor:
    """Rows `ids` [R] -> [R, K]."""
    return blocks[ids // OUTPUTS, :, ids % OUTPUTS].view(torch.bfloat16)


def multiply(x: Tensor, blocks: Tensor, bias: Tensor | None, outputs: int) -> Tensor:
    """x [M, K] @ weight.T + bias -> [M, N]. The bits of a row don't depend on other rows, nor on the count of threads."""
    rows, columns = x.shape
    x = x.contiguous()
    assert x.dtype == torch.bfloat16 and columns == 2 * blocks.shape[1] and (bias is None or bias.dtype == x.dtype)
    product = torch.empty((rows, outputs), dtype=x.dtype)
    if rows:
        turned = torch.empty((rows + MORE_ROWS) * columns if rows > 1 else 0, dtype=x.dtype)
        cpu_kernels.multiply(x, blocks, bias, product, turned)
    return product
