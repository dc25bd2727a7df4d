"""Products of one row with a weight of 16, 8 or 4 bits, in Triton-the-language.

Why it exists: with one row a product takes as long as reading the weight, so a thread reads as wide as it can, adds up by
itself, and nothing goes through shared memory before the end. Forms of a weight: see `weight_rows_kernel`.

Blocks have two dimensions, of which only one can be the one that neighbouring threads share; rows are a tuple of them. In a
block of three the compiler chooses, differently from version to version, and numbers of `x` moved between threads at every step.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, uses_kernels
from localmodel.engine.weight_bits import raised_nibbles, signed_bytes


@triton.jit
def stacked(parts, COUNT: tl.constexpr):
    """COUNT blocks [CHUNKS] -> [CHUNKS, COUNT]"""
    if COUNT == 1:
        result = parts[0][:, None]
    else:
        half: tl.constexpr = COUNT // 2
        pair = tl.join(stacked(parts[:half], half), stacked(parts[half:], half))
        result = tl.reshape(tl.permute(pair, (0, 2, 1)), [parts[0].shape[0], COUNT])
    return result


@triton.jit
def load_numbers(x, at, inside):
    """8 numbers of `x` from each of `at` [CHUNKS] on -> [CHUNKS, 8]"""
    return tl.load(x + at[:, None] + tl.arange(0, 8)[None, :], mask=inside[:, None], other=0.0)


@triton.jit
def first_row(N, ROWS: tl.constexpr):
    """Of a program. The last one takes all of its ROWS, too, some of which another takes with the same result: so addresses of
    rows differ by constants, which cost no instruction, and nothing asks whether a row is there."""
    return tl.minimum(tl.program_id(0) * ROWS, N - ROWS)


@triton.jit
def load_rows(weight, n, at, inside, STRIDE: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr):
    """SIZE elements of each row from each of `at` [CHUNKS] on -> ROWS blocks [CHUNKS, SIZE]"""
    place = weight + n.to(tl.int64) * STRIDE + at[:, None] + tl.arange(0, SIZE)[None, :]
    rows = ()
    for r in tl.static_range(ROWS):
        # A weight is read once; kept in the cache it would drive `x` out, which costs 5 to 10 %.
        rows = rows + (tl.load(place + r * STRIDE, mask=inside[:, None], other=0, eviction_policy="evict_first"),)
    return rows


@triton.jit
def load_of_groups(table, n, group, inside, STRIDE: tl.constexpr, ROWS: tl.constexpr):
    """Of each row the scale or minimum of `group` [CHUNKS] -> ROWS blocks [CHUNKS]"""
    place = table + n.to(tl.int64) * STRIDE + group
    rows = ()
    for r in tl.static_range(ROWS):
        rows = rows + (tl.load(place + r * STRIDE, mask=inside, other=0.0),)
    return rows


@triton.jit
def store_sums(output, bias, scales, totals, n, ROWS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr):
    """Adds up over the threads what each has of each row."""
    m = n + tl.arange(0, ROWS)
    result = tl.sum(stacked(totals, ROWS), 0)
    if SCALED:
        result *= tl.load(scales + m).to(tl.float32)
    if BIASED:
        result += tl.load(bias + m).to(tl.float32)
    tl.store(output + m, result.to(output.dtype.element_ty))


@triton.jit
def _row_kernel(
    x, weight, scales, bias, output, N,
    K: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """A thread takes 8 numbers of `x` at a time and uses them for all ROWS; of 8 bits twice, so that as many bytes are on their
    way as of 16."""
    n = first_row(N, ROWS)
    c = tl.arange(0, CHUNKS) * 8
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K, CHUNKS * 8 * 16 // BITS):
        at, inside = start + c, start + c < K
        w, part = load_rows(weight, n, at, inside, K, ROWS, 8), load_numbers(x, at, inside)
        if BITS == 8:
            at, inside = at + CHUNKS * 8, at + CHUNKS * 8 < K
            more, other = load_rows(weight, n, at, inside, K, ROWS, 8), load_numbers(x, at, inside)
        sums = ()
        for r in tl.static_range(ROWS):
            total = totals[r] + tl.sum(signed_bytes(w[r], tl.float32, FAST) * part.to(tl.float32), 1)
            if BITS == 8:
                total += tl.sum(signed_bytes(more[r], tl.float32, FAST) * other.to(tl.float32), 1)
            sums = sums + (total,)
        totals = sums
    store_sums(output, bias, scales, totals, n, ROWS, BITS == 8, BIASED)


@triton.jit
def halves(block):
    """[CHUNKS, 16] -> its first and its last 8, in the registers that they were read into."""
    return tl.split(tl.permute(tl.reshape(block, [block.shape[0], 2, 8]), [0, 2, 1]))


@triton.jit
def load_block4(x, weight, scales, minima, n, at, K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr):
    """16 bytes of each row from each of `at` [CHUNKS] on, their scales and minima, and float32 [CHUNKS, 8] that the first and the
    last 8 low halves and as many high ones are multiplied with."""
    half: tl.constexpr = G // 2
    inside, group = at < K // 2, at // half
    w = load_rows(weight, n, at, inside, K // 2, ROWS, 16)
    factors = load_of_groups(scales, n, group, inside, K // G, ROWS)
    lowest = load_of_groups(minima, n, group, inside, K // G, ROWS)
    place = group * G + at % half
    low, low_more = load_numbers(x, place, inside).to(tl.float32), load_numbers(x, place + 8, inside).to(tl.float32)
    place += half
    high, high_more = load_numbers(x, place, inside).to(tl.float32), load_numbers(x, place + 8, inside).to(tl.float32)
    return w, factors, lowest, low, low_more, high, high_more


@triton.jit
def raised_product(w, low_x, high_x, FAST: tl.constexpr):
    """Sums of 8 low halves and of 8 high ones [CHUNKS], each too large by what raising the bits added."""
    low, high = raised_nibbles(w, FAST)
    return tl.sum(low * low_x, 1) + 16 * tl.sum(high * high_x, 1)


@triton.jit
def _row4_kernel(
    x, weight, scales, minima, bias, output, N,
    K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """The same with 16 bytes at once, which are 32 numbers of one group."""
    n = first_row(N, ROWS)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K // 2, CHUNKS * 16):
        at = start + tl.arange(0, CHUNKS) * 16
        w, factors, lowest, low, low_more, high, high_more = load_block4(x, weight, scales, minima, n, at, K, G, ROWS)
        low_sum, high_sum = tl.sum(low + low_more, 1), tl.sum(high + high_more, 1)
        raised = 128 * low_sum + 2048 * high_sum
        sums = ()
        for r in tl.static_range(ROWS):
            first, second = halves(w[r])
            part = raised_product(first, low, high, FAST) + raised_product(second, low_more, high_more, FAST) - raised
            sums = sums + (totals[r] + part * factors[r].to(tl.float32) + (low_sum + high_sum) * lowest[r].to(tl.float32),)
        totals = sums
    store_sums(output, bias, scales, totals, n, ROWS, False, BIASED)


def at_most(rows: int, count: int) -> int:
    """A program's rows, which are a power of two, where a weight has only `count`."""
    return min(rows, 1 << (count.bit_length() - 1))


def multiply_row4(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, group: int,
    rows: int = 4, chunks: int = 32, warps: int = 1,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N] for a weight of 4 bits."""
    count, size = weight.shape[0], x.shape[1]
    rows = at_most(rows, count)
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
    rows = at_most(rows, count)
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row_kernel, (triton.cdiv(count, rows),),
        x, weight, scales, x if bias is None else bias, output, count,
        K=size, BITS=bits, ROWS=rows, CHUNKS=chunks, BIASED=bias is not None, FAST=uses_kernels(x), num_warps=warps,
    )  # fmt: skip
    return output
