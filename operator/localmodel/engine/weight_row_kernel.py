"""Products of one row with a weight of 16, 8 or 4 bits, in Triton-the-language.

Why it exists: with one row a product takes as long as reading the weight, so a thread reads as wide as it can, adds up by
itself, and nothing goes through shared memory. Forms of a weight: see `weight_rows_kernel`.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, uses_kernels
from localmodel.engine.weight_bits import raised_nibbles, signed_bytes


@triton.jit
def load_chunk(lines, x, chunk, real, i, K: tl.constexpr):
    inside = chunk < K
    # A weight is read once; kept in the cache it would drive `x` out, which costs 5 to 10 %.
    mask = real[None, :, None] & inside[:, None, None]
    w = tl.load(lines + chunk[:, None, None], mask=mask, other=0, eviction_policy="evict_first")
    return w, tl.load(x + chunk[:, None] + i[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def _row_kernel(
    x, weight, scales, bias, output, N,
    K: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """A thread takes 8 numbers of `x` at a time and uses them for all ROWS. Chunks come before rows in a block: so the compiler
    gives neighbouring chunks to neighbouring threads, and to the same ones those of `x`, which then never move."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    c = tl.arange(0, CHUNKS) * 8
    i = tl.arange(0, 8)
    lines = weight + n.to(tl.int64)[None, :, None] * K + i[None, None, :]
    total = tl.zeros([CHUNKS, ROWS], tl.float32)
    for at in range(0, K, CHUNKS * 8 * 16 // BITS):
        w, part = load_chunk(lines, x, at + c, real, i, K)
        if BITS == 8:  # as many bytes on their way as with 16
            more, other = load_chunk(lines, x, at + CHUNKS * 8 + c, real, i, K)
            total += tl.sum(signed_bytes(w, tl.float32, FAST) * part.to(tl.float32)[:, None, :], 2)
            w, part = more, other
        total += tl.sum(signed_bytes(w, tl.float32, FAST) * part.to(tl.float32)[:, None, :], 2)
    result = tl.sum(total, 0)
    if BITS == 8:
        result *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        result += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + n, result.to(output.dtype.element_ty), mask=real)


@triton.jit
def load_chunk4(lines, x, scales, minima, groups, byte, real, i, K: tl.constexpr, G: tl.constexpr):
    half: tl.constexpr = G // 2
    inside = byte < K // 2
    mask = real[None, :] & inside[:, None]
    w = tl.load(lines + byte[:, None, None], mask=mask[:, :, None], other=0, eviction_policy="evict_first")
    group = groups + (byte // half)[:, None]
    scale = tl.load(scales + group, mask=mask, other=0.0)
    minimum = tl.load(minima + group, mask=mask, other=0.0)
    place = x + (byte // half * G + byte % half)[:, None] + i[None, :]
    low = tl.load(place, mask=inside[:, None], other=0.0)
    return w, scale, minimum, low, tl.load(place + half, mask=inside[:, None], other=0.0)


@triton.jit
def add_chunk4(total, w, scale, minimum, low_x, high_x, FAST: tl.constexpr):
    low, high = raised_nibbles(w, FAST)
    low_x = low_x.to(tl.float32)
    high_x = high_x.to(tl.float32)
    factor = scale.to(tl.float32)
    part = tl.sum(low * low_x[:, None, :], 2) + 16 * tl.sum(high * high_x[:, None, :], 2)
    low_sum = tl.sum(low_x, 1)
    high_sum = tl.sum(high_x, 1)
    raised = 128 * low_sum + 2048 * high_sum
    return total + (part - raised[:, None]) * factor + (low_sum + high_sum)[:, None] * minimum.to(tl.float32)


@triton.jit
def _row4_kernel(
    x, weight, scales, minima, bias, output, N,
    K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """The same with 8 bytes at a time, which are 16 numbers of one group."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    row = n.to(tl.int64)
    c = tl.arange(0, CHUNKS) * 8
    i = tl.arange(0, 8)
    lines = weight + row[None, :, None] * (K // 2) + i[None, None, :]
    groups = row[None, :] * (K // G)
    total = tl.zeros([CHUNKS, ROWS], tl.float32)
    for at in range(0, K // 2, CHUNKS * 16):
        w, scale, minimum, low, high = load_chunk4(lines, x, scales, minima, groups, at + c, real, i, K, G)
        if at + CHUNKS * 8 < K // 2:
            more = load_chunk4(lines, x, scales, minima, groups, at + CHUNKS * 8 + c, real, i, K, G)
            total = add_chunk4(total, more[0], more[1], more[2], more[3], more[4], FAST)
        total = add_chunk4(total, w, scale, minimum, low, high, FAST)
    result = tl.sum(total, 0)
    if BIASED:
        result += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + n, result.to(output.dtype.element_ty), mask=real)


def multiply_row4(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, group: int,
    rows: int = 4, chunks: int = 32, warps: int = 1,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N] for a weight of 4 bits."""
    count, size = weight.shape[0], x.shape[1]
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row4_kernel, (triton.cdiv(count, rows),),
        x, weight, scales, minima, x if bias is None else bias, output, count,
        K=size, G=group, ROWS=rows, CHUNKS=chunks, BIASED=bias is not None, FAST=uses_kernels(x), num_warps=warps,
    )  # fmt: skip
    return output


def multiply_row(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, bits: int, rows: int = 8, chunks: int = 32, warps: int = 1
) -> Tensor:
    """x [1, K] @ weight.T + bias -> [1, N]. K is a multiple of 8."""
    count, size = weight.shape
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row_kernel, (triton.cdiv(count, rows),),
        x, weight, scales, x if bias is None else bias, output, count,
        K=size, BITS=bits, ROWS=rows, CHUNKS=chunks, BIASED=bias is not None, FAST=uses_kernels(x), num_warps=warps,
    )  # fmt: skip
    return output
