"""One block of columns of `rounding.compensate` on a card, in Triton-the-language.

Why it exists: columns are rounded one after another, and each takes ten small kernels; a matrix of 18,944 columns takes seconds
of launches. Rows know nothing of each other, so one kernel can keep a row's block in registers. It computes what the loop in
`rounding` does, and chooses nothing.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton

ROWS = 32


@triton.jit
def _block_kernel(
    own, factors, scale, minimum, numbers, errors, N, column_stride, row_stride, factor_stride,
    BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    k = tl.arange(0, BLOCK)
    left = tl.load(own + k[:, None] * column_stride + n[None, :] * row_stride, mask=real[None, :], other=0.0)
    step = tl.load(scale + n, mask=real, other=1.0)
    least = tl.load(minimum + n, mask=real, other=0.0)
    for i in range(BLOCK):
        column = tl.sum(tl.where((k == i)[:, None], left, 0.0), 0)
        number = tl.minimum(tl.maximum(_round((column - least) / step), 0.0), 15.0)
        error = (column - (number * step + least)) / tl.load(factors + i * factor_stride + i)
        tl.store(numbers + i * N + n, number.to(tl.uint8), mask=real)
        tl.store(errors + i * N + n, error, mask=real)
        spread = tl.load(factors + i * factor_stride + k, mask=k > i, other=0.0)
        left -= spread[:, None] * error[None, :]


@triton.jit
def _round(value):
    """To the nearest whole number, of two the even one; values are far from the ends of int32."""
    low = tl.floor(value)
    rest = value - low
    odd = low - 2 * tl.floor(low * 0.5)
    return low + tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1.0)), 1.0, 0.0)


def compensate_block(own: Tensor, factors: Tensor, scale: Tensor, minimum: Tensor, numbers: Tensor) -> Tensor:
    """own [B, N] float32; factors [B, B], upper; scale, minimum [N]. Fills numbers uint8 [B, N], contiguous; errors [B, N]."""
    block, count = own.shape
    scale, minimum = scale.contiguous(), minimum.contiguous()
    errors = torch.empty((block, count), dtype=own.dtype, device=own.device)
    factors = factors.contiguous()  # solvers give columns one after another
    _block_kernel[(triton.cdiv(count, ROWS),)](
        own, factors, scale, minimum, numbers, errors, count, *own.stride(), factors.stride(0), BLOCK=block, ROWS=ROWS,
        num_warps=1,
    )  # fmt: skip
    return errors
