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
    w = tl.load(lines + chunk[:, None, None] + i[None, None, :], mask=mask, other=0, eviction_policy="evict_first")
    return w, tl.load(x + chunk[:, None] + i[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def halve(w):
    """[CHUNKS, ROWS, 16] -> its first and its last 8, in the registers that they were read into. So 8 numbers of `x` at a time
    lie with the thread that needs them; 16 would have to move."""
    return tl.split(tl.permute(tl.reshape(w, [w.shape[0], w.shape[1], 2, 8]), [0, 1, 3, 2]))


@triton.jit
def _row_kernel(
    x, weight, scales, bias, output, N,
    K: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, WIDE: tl.constexpr, BIASED: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """A thread takes 8 numbers of `x` at a time and uses them for all ROWS. Chunks come before rows in a block: so the compiler
    gives neighbouring chunks to neighbouring threads, and to the same ones those of `x`, which then never move."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    c = tl.arange(0, CHUNKS) * 8
    i = tl.arange(0, 8)
    lines = weight + n.to(tl.int64)[None, :, None] * K
    total = tl.zeros([CHUNKS, ROWS], tl.float32)
    for at in range(0, K, CHUNKS * 8 * 16 // BITS):
        if BITS == 8:  # as many bytes on their way as with 16
            if WIDE:
                chunk = at + 2 * c
                inside = (chunk < K)[:, None]
                mask = real[None, :, None] & inside[:, :, None]
                at_once = lines + chunk[:, None, None] + tl.arange(0, 16)[None, None, :]
                w, more = halve(tl.load(at_once, mask=mask, other=0, eviction_policy="evict_first"))
                part = tl.load(x + chunk[:, None] + i[None, :], mask=inside, other=0.0)
                other = tl.load(x + chunk[:, None] + 8 + i[None, :], mask=inside, other=0.0)
            else:
                w, part = load_chunk(lines, x, at + c, real, i, K)
                more, other = load_chunk(lines, x, at + CHUNKS * 8 + c, real, i, K)
            total += tl.sum(signed_bytes(w, tl.float32, FAST) * part.to(tl.float32)[:, None, :], 2)
            w, part = more, other
        else:
            w, part = load_chunk(lines, x, at + c, real, i, K)
        total += tl.sum(signed_bytes(w, tl.float32, FAST) * part.to(tl.float32)[:, None, :], 2)
    result = tl.sum(total, 0)
    if BITS == 8:
        result *= tl.load(scales + n, mask=real, other=0.0).to(tl.float32)
    if BIASED:
        result += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + n, result.to(output.dtype.element_ty), mask=real)


@triton.jit
def load_chunk4(lines, scales, minima, groups, byte, real, i, K: tl.constexpr, G: tl.constexpr):
    half: tl.constexpr = G // 2
    mask = real[None, :] & (byte < K // 2)[:, None]
    place = lines + byte[:, None, None] + i[None, None, :]
    w = tl.load(place, mask=mask[:, :, None], other=0, eviction_policy="evict_first")
    group = groups + (byte // half)[:, None]
    return w, tl.load(scales + group, mask=mask, other=0.0), tl.load(minima + group, mask=mask, other=0.0)


@triton.jit
def load_numbers4(x, byte, i, K: tl.constexpr, G: tl.constexpr):
    """What the low halves of 8 bytes are multiplied with, and the high ones."""
    half: tl.constexpr = G // 2
    inside = (byte < K // 2)[:, None]
    place = x + (byte // half * G + byte % half)[:, None] + i[None, :]
    return tl.load(place, mask=inside, other=0.0), tl.load(place + half, mask=inside, other=0.0)


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
    K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, WIDE: tl.constexpr, BIASED: tl.constexpr,
    FAST: tl.constexpr,
):  # fmt: skip
    """The same with 8 bytes at a time, or 16, which are twice as many numbers of one group."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = n < N
    row = n.to(tl.int64)
    c = tl.arange(0, CHUNKS) * 8
    i = tl.arange(0, 8)
    lines = weight + row[None, :, None] * (K // 2)
    groups = row[None, :] * (K // G)
    total = tl.zeros([CHUNKS, ROWS], tl.float32)
    for at in range(0, K // 2, CHUNKS * 16):
        byte = at + (2 * c if WIDE else c)
        w, scale, minimum = load_chunk4(lines, scales, minima, groups, byte, real, tl.arange(0, 16) if WIDE else i, K, G)
        low, high = load_numbers4(x, byte, i, K, G)
        if WIDE:
            w, more = halve(w)
            other_low, other_high = load_numbers4(x, byte + 8, i, K, G)
            total = add_chunk4(total, more, scale, minimum, other_low, other_high, FAST)
        elif at + CHUNKS * 8 < K // 2:
            byte = at + CHUNKS * 8 + c
            more, other_scale, other_minimum = load_chunk4(lines, scales, minima, groups, byte, real, i, K, G)
            other_low, other_high = load_numbers4(x, byte, i, K, G)
            total = add_chunk4(total, more, other_scale, other_minimum, other_low, other_high, FAST)
        total = add_chunk4(total, w, scale, minimum, low, high, FAST)
    result = tl.sum(total, 0)
    if BIASED:
        result += tl.load(bias + n, mask=real, other=0.0).to(tl.float32)
    tl.store(output + n, result.to(output.dtype.element_ty), mask=real)


def multiply_row4(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, group: int,
    rows: int = 4, chunks: int = 32, warps: int = 1, wide: bool = False,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N] for a weight of 4 bits. `wide`: a thread reads 16 bytes at once, not 8."""
    count, size = weight.shape[0], x.shape[1]
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row4_kernel, (triton.cdiv(count, rows),),
        x, weight, scales, minima, x if bias is None else bias, output, count,
        K=size, G=group, ROWS=rows, CHUNKS=chunks, WIDE=wide, BIASED=bias is not None, FAST=uses_kernels(x), num_warps=warps,
    )  # fmt: skip
    return output


def multiply_row(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, bits: int, rows: int = 8, chunks: int = 32, warps: int = 1,
    wide: bool = False,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N]. K is a multiple of 8. `wide`: of 8 bits a thread reads 16 bytes at once, not 8, if
    K is a multiple of 16."""
    count, size = weight.shape
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row_kernel, (triton.cdiv(count, rows),),
        x, weight, scales, x if bias is None else bias, output, count,
        K=size, BITS=bits, ROWS=rows, CHUNKS=chunks, WIDE=wide and size % 16 == 0, BIASED=bias is not None, FAST=uses_kernels(x),
        num_warps=warps,
    )  # fmt: skip
    return output
