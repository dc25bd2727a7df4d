"""Products of a few rows with weights of 8 or 4 bits, in Triton-the-language, on the tensor cores.

Why it exists: with few rows a product takes as long as reading the weights, so they are read once, in the form they are
stored in, and become numbers on the way.

Forms of a weight [N, K]: 16 bits: as it is. 8 bits: int8 [N, K] and a scale for each row. 4 bits: uint8 [N, K / 2] and a
scale and a minimum for each group of G neighbours of a row; a group's first half lies in the low halves of its G / 2 bytes.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, overlap_of, uses_kernels
from localmodel.engine.overlap_kernel import let_next_begin, wait_for_inputs
from localmodel.engine.weight_bits import nibbles, signed_bytes

SUM_TILE = 512
AT_ONCE = tl.constexpr(4)
"""Parts that are asked for before the first of them has come."""


@triton.jit(do_not_specialize=["M"])
def _rows_kernel(
    x, weight, scales, minima, bias, output, partials, M, N, splits,
    K: tl.constexpr, BITS: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr,
    BIASED: tl.constexpr, SPLIT: tl.constexpr, FAST: tl.constexpr, OVERLAP: tl.constexpr = "",
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(2)
    real = n < N
    row = n.to(tl.int64)
    tiles = tl.cdiv(K, TILE)
    each = tl.cdiv(tiles, splits)
    start = split * each
    end = tl.minimum(start + each, tiles)
    wait_for_inputs(OVERLAP)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    if BITS == 4:
        half: tl.constexpr = G // 2
        j = tl.arange(0, half)
        for tile in range(start, end):
            packed = tl.load(weight + row[:, None] * (K // 2) + tile * half + j[None, :], mask=real[:, None], other=0)
            scale = tl.load(scales + row * (K // G) + tile, mask=real, other=0.0)[:, None]
            minimum = tl.load(minima + row * (K // G) + tile, mask=real, other=0.0)[:, None]
            low, high = nibbles(packed, x.dtype.element_ty, FAST)
            place = m[None, :] * K + (tile * G + j)[:, None]
            low_x = tl.load(x + place, mask=m[None, :] < M, other=0.0)
            high_x = tl.load(x + place + half, mask=m[None, :] < M, other=0.0)
            total = tl.dot(low * scale + minimum, low_x, total, input_precision="ieee")
            total = tl.dot(high * scale + minimum, high_x, total, input_precision="ieee")
    else:
        k = tl.arange(0, TILE)
        for tile in range(start, end):
            at = tile * TILE + k
            w = tl.load(weight + row[:, None] * K + at[None, :], mask=real[:, None] & (at < K)[None, :], other=0)
            part = tl.load(x + m[None, :] * K + at[:, None], mask=(m[None, :] < M) & (at < K)[:, None], other=0.0)
            total = tl.dot(signed_bytes(w, x.dtype.element_ty, FAST), part, total, input_precision="ieee")
    let_next_begin(OVERLAP)
    wanted = real[:, None] & (m[None, :] < M)
    if SPLIT:
        tl.store(partials + (split * M + m[None, :]).to(tl.int64) * N + n[:, None], total, mask=wanted)
    else:
        if BITS == 8:
            total *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)[:, None]
        if BIASED:
            total += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)[:, None]
        tl.store(output + m[None, :] * N + n[:, None], total.to(output.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=["M", "splits"])
def _sum_kernel(
    partials, scales, bias, output, M, N, splits, SCALED: tl.constexpr, BIASED: tl.constexpr, TILE: tl.constexpr,
    OVERLAP: tl.constexpr = "",
):  # fmt: skip
    m = tl.program_id(1)
    n = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = n < N
    if SCALED:
        scale = tl.load(scales + n, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        added = tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    wait_for_inputs(OVERLAP)
    total = tl.zeros([TILE], tl.float32)
    for split in range(0, splits, AT_ONCE):
        parts = ()
        for at in tl.static_range(AT_ONCE):
            place = tl.minimum(split + at, splits - 1) * M + m
            parts += (tl.load(partials + place.to(tl.int64) * N + n, mask=real, other=0.0),)
        for at in tl.static_range(AT_ONCE):
            total += tl.where(split + at < splits, parts[at], 0.0)
    if SCALED:
        total *= scale
    if BIASED:
        total += added
    tl.store(output + m * N + n, total.to(output.dtype.element_ty), mask=real)


def multiply_rows(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int, group: int,
    rows: int = 64, columns: int = 16, tile: int = 128, splits: int = 1, warps: int = 4, stages: int = 4,
) -> Tensor:  # fmt: skip
    """x [M, K], contiguous, @ weight.T + bias -> [M, N]; `columns` rows of x at a time, K in `splits` parts."""
    height, size = x.shape
    count = weight.shape[0]
    tile = group if bits == 4 else tile
    splits = min(splits, triton.cdiv(size, tile))
    output = torch.empty((height, count), dtype=x.dtype, device=x.device)
    partials = torch.empty((splits, height, count) if splits > 1 else (0,), dtype=torch.float32, device=x.device)
    launch(
        _rows_kernel, (triton.cdiv(count, rows), triton.cdiv(height, columns), splits),
        x, weight, scales, minima, x if bias is None else bias, output, partials, height, count, splits,
        K=size, BITS=bits, G=group, ROWS=rows, COLUMNS=columns, TILE=tile, BIASED=bias is not None, SPLIT=splits > 1,
        FAST=uses_kernels(x), overlap="late", num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if splits > 1:
        sum_parts(partials, scales if bits == 8 else None, bias, output)
    return output


def sum_parts(partials: Tensor, scales: Tensor | None, bias: Tensor | None, output: Tensor) -> None:
    """partials [S, M, N] float32, summed, times scales [N], plus bias [N] -> output [M, N]."""
    splits, height, count = partials.shape
    places = (output if scales is None else scales, output if bias is None else bias)
    launch(
        _sum_kernel, (triton.cdiv(count, SUM_TILE), height), partials, *places, output, height, count, splits,
        SCALED=scales is not None, BIASED=bias is not None, TILE=SUM_TILE, overlap=overlap_of(height), num_warps=4,
    )  # fmt: skip
