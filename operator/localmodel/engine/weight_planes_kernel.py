"""Product of many rows with a weight of 8 bits in whole numbers, in Triton-the-language.

Why it exists: with 100 rows and more a card's arithmetic decides, and numbers of 8 bits multiply twice as fast as bfloat16.
A row of x has to be numbers of 8 bits too, so it becomes two: x = step * (256 * high + low), with one step a row. That
keeps 16 bits of the row's largest number, where bfloat16 keeps 8 of each: over a row the error is less than what rounding x
to bfloat16 cost before. Sums are exact: 127 * 128 * K fits into 32 bits up to K = 130,000.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch
from localmodel.engine.weight_rows_kernel import sum_parts

MOST_NUMBERS = 32512
"""256 * 127: the largest whole number that `high` and `low` make together without a carry out of 8 bits."""


@triton.jit
def _planes_kernel(x, planes, steps, M, K: tl.constexpr, PAD: tl.constexpr, MOST: tl.constexpr):
    m = tl.program_id(0)
    k = tl.arange(0, PAD)
    value = tl.load(x + m.to(tl.int64) * K + k, mask=k < K, other=0.0).to(tl.float32)
    step = tl.maximum(tl.max(tl.abs(value), 0), 1e-30) / MOST
    scaled = value / step
    number = tl.where(scaled < 0, scaled - 0.5, scaled + 0.5).to(tl.int32)
    high = (number + 128) >> 8
    place = planes + m.to(tl.int64) * K + k
    tl.store(place, high.to(tl.int8), mask=k < K)
    tl.store(place + M.to(tl.int64) * K, (number - high * 256).to(tl.int8), mask=k < K)
    tl.store(steps + m, step)


@triton.jit
def _product_kernel(
    planes, steps, weight, scales, bias, output, partials, M, N, splits,
    K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr, BIASED: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    n = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(2)
    real = (n < N)[:, None]
    wanted = (m < M)[None, :]
    tiles: tl.constexpr = (K + TILE - 1) // TILE
    each = tl.cdiv(tiles, splits)
    start = split * each
    end = tl.minimum(start + each, tiles)
    k = tl.arange(0, TILE)
    lines = weight + tl.minimum(n, N - 1).to(tl.int64)[:, None] * K
    columns = planes + tl.minimum(m, M - 1)[None, :] * K
    below = M * K
    high = tl.zeros([ROWS, COLUMNS], tl.int32)
    low = tl.zeros([ROWS, COLUMNS], tl.int32)
    for tile in range(start, end):
        at = tile * TILE + k
        if K % TILE == 0:
            w = tl.load(lines + at[None, :])
            first = tl.load(columns + at[:, None])
            second = tl.load(columns + below + at[:, None])
        else:
            w = tl.load(lines + at[None, :], mask=(at < K)[None, :], other=0)
            first = tl.load(columns + at[:, None], mask=(at < K)[:, None], other=0)
            second = tl.load(columns + below + at[:, None], mask=(at < K)[:, None], other=0)
        high = tl.dot(w, first, high, out_dtype=tl.int32)
        low = tl.dot(w, second, low, out_dtype=tl.int32)
    step = tl.load(steps + m, mask=m < M, other=0.0)
    scale = tl.load(scales + n, mask=n < N, other=0.0).to(tl.float32)
    total = (high.to(tl.float32) * 256 + low.to(tl.float32)) * step[None, :]
    if SPLIT:
        tl.store(partials + (split * M + m[None, :]).to(tl.int64) * N + n[:, None], total, mask=real & wanted)
    else:
        total *= scale[:, None]
        if BIASED:
            total += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
        tl.store(output + m[None, :] * N + n[:, None], total.to(output.dtype.element_ty), mask=real & wanted)


def multiply_planes(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None,
    rows: int = 128, columns: int = 128, tile: int = 128, splits: int = 1, warps: int = 8, stages: int = 4,
) -> Tensor:  # fmt: skip
    """x [M, K], contiguous, @ weight.T + bias -> [M, N] with weight int8 [N, K], scales [N]. K is a multiple of 16."""
    height, size = x.shape
    count = weight.shape[0]
    splits = min(splits, triton.cdiv(size, tile))
    planes = torch.empty((2, height, size), dtype=torch.int8, device=x.device)
    steps = torch.empty(height, dtype=torch.float32, device=x.device)
    launch(
        _planes_kernel, (height,), x, planes, steps, height,
        K=size, PAD=triton.next_power_of_2(size), MOST=MOST_NUMBERS, num_warps=8,
    )  # fmt: skip
    output = torch.empty((height, count), dtype=x.dtype, device=x.device)
    partials = torch.empty((splits, height, count) if splits > 1 else (0,), dtype=torch.float32, device=x.device)
    launch(
        _product_kernel, (triton.cdiv(height, columns), triton.cdiv(count, rows), splits),
        planes, steps, weight, scales, x if bias is None else bias, output, partials, height, count, splits,
        K=size, ROWS=rows, COLUMNS=columns, TILE=tile, BIASED=bias is not None, SPLIT=splits > 1,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if splits > 1:
        sum_parts(partials, scales, bias, output)
    return output
