"""Products of one row with a weight of 8 or 4 bits in whole numbers, in Triton-the-language.

Why it exists: where each number of the weight becomes float32 first, a card spends four instructions on it. Here a thread makes
its 16 or 32 numbers of `x` whole, as step * (256 * high + low), once for all of its rows, and multiplies four at a time
(`dp4a`). The step is that of these few numbers: 16 bits of the largest, where bfloat16 has 8 of each. Forms of a weight: see
`weight_rows_kernel`; of a block: `weight_row_kernel`.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, uses_kernels
from localmodel.engine.overlap_kernel import let_next_begin, wait_for_inputs
from localmodel.engine.weight_row_kernel import (
    THREADS,
    at_most,
    first_row,
    load_ends,
    load_of_groups,
    load_rows,
    store_sums,
)
from localmodel.engine.whole_numbers import (
    MOST,
    bytes_product,
    halves,
    larger,
    load_fours,
    most_of,
    nibbles_product,
    planes_of,
    sum_of,
)


@triton.jit
def _row8_planes_kernel(
    x, weight, scales, bias, output, N,
    K: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, AHEAD: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
    OVERLAP: tl.constexpr = "",
):  # fmt: skip
    n = first_row(N, ROWS)
    words = weight.to(tl.pointer_type(tl.int32))
    c = tl.arange(0, CHUNKS) * 4
    ends = load_ends(scales, bias, n, ROWS, True, BIASED)
    ahead = ()
    for i in tl.static_range(AHEAD):
        at = i * CHUNKS * 4 + c
        ahead = ahead + (load_rows(words, n, at, at < K // 4, K // 4, ROWS, 4),)
    wait_for_inputs(OVERLAP)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K // 4, CHUNKS * 4):
        at = start + c
        later = at + AHEAD * CHUNKS * 4
        ahead = ahead + (load_rows(words, n, later, later < K // 4, K // 4, ROWS, 4),)
        x1, x2 = load_fours(x, at * 4, at < K // 4), load_fours(x, at * 4 + 8, at < K // 4)
        step = larger(larger(most_of(x1), most_of(x2)), 1e-30) / MOST
        p1, p2 = planes_of(x1, 1 / step, FAST), planes_of(x2, 1 / step, FAST)
        sums = ()
        for r in tl.static_range(ROWS):
            first, second = halves(ahead[0][r])
            product = bytes_product(first, p1, FAST) + bytes_product(second, p2, FAST)
            sums = sums + (totals[r] + product.to(tl.float32) * step,)
        totals = sums
        ahead = ahead[1:]
    let_next_begin(OVERLAP)
    store_sums(output, totals, ends, n, ROWS)


@triton.jit
def load_weight4(words, scales, minima, n, at, K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr):
    """Four words of each row from each of `at` [CHUNKS] on, their scales and minima."""
    inside, group = at < K // 8, at // (G // 8)
    w = load_rows(words, n, at, inside, K // 8, ROWS, 4)
    factors = load_of_groups(scales, n, group, inside, K // G, ROWS)
    lowest = load_of_groups(minima, n, group, inside, K // G, ROWS)
    return w, factors, lowest


@triton.jit
def _row4_planes_kernel(
    x, weight, scales, minima, bias, output, N,
    K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, AHEAD: tl.constexpr, BIASED: tl.constexpr,
    FAST: tl.constexpr, OVERLAP: tl.constexpr = "",
):  # fmt: skip
    n = first_row(N, ROWS)
    words = weight.to(tl.pointer_type(tl.int32))
    c = tl.arange(0, CHUNKS) * 4
    half: tl.constexpr = G // 2
    ends = load_ends(bias, bias, n, ROWS, False, BIASED)
    ahead = ()
    for i in tl.static_range(AHEAD):
        ahead = ahead + (load_weight4(words, scales, minima, n, i * CHUNKS * 4 + c, K, G, ROWS),)
    wait_for_inputs(OVERLAP)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K // 8, CHUNKS * 4):
        at = start + c
        ahead = ahead + (load_weight4(words, scales, minima, n, at + AHEAD * CHUNKS * 4, K, G, ROWS),)
        inside, place = at < K // 8, at * 4 // half * G + at * 4 % half
        low1, low2 = load_fours(x, place, inside), load_fours(x, place + 8, inside)
        high1, high2 = load_fours(x, place + half, inside), load_fours(x, place + half + 8, inside)
        x_sum = (sum_of(low1) + sum_of(low2)) + (sum_of(high1) + sum_of(high2))
        most = larger(larger(most_of(low1), most_of(low2)), larger(most_of(high1), most_of(high2)))
        step = larger(most, 1e-30) / MOST
        inverse, sixteenth = 1 / step, step / 16
        first_low, first_high = planes_of(low1, inverse, FAST), planes_of(high1, inverse, FAST)
        second_low, second_high = planes_of(low2, inverse, FAST), planes_of(high2, inverse, FAST)
        w, factors, lowest = ahead[0]
        sums = ()
        for r in tl.static_range(ROWS):
            first, second = halves(w[r])
            product = nibbles_product(first, first_low, first_high, FAST)
            product += nibbles_product(second, second_low, second_high, FAST)
            total = totals[r] + product.to(tl.float32) * (factors[r].to(tl.float32) * sixteenth)
            sums = sums + (total + x_sum * lowest[r].to(tl.float32),)
        totals = sums
        ahead = ahead[1:]
    let_next_begin(OVERLAP)
    store_sums(output, totals, ends, n, ROWS)


def multiply_row_planes(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int, group: int,
    rows: int = 8, ahead: int = 1, warps: int = 4, overlap: str = "early",
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N] for a weight of 8 bits, K a multiple of 16, or of 4 bits."""
    count, size = weight.shape[0], x.shape[1]
    rows = at_most(rows, count)
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    tables, form = ((scales,), {}) if bits == 8 else ((scales, minima), {"G": group})
    launch(
        _row8_planes_kernel if bits == 8 else _row4_planes_kernel, (triton.cdiv(count, rows),),
        x, weight, *tables, x if bias is None else bias, output, count,
        K=size, **form, ROWS=rows, CHUNKS=THREADS * warps, AHEAD=ahead, BIASED=bias is not None, FAST=uses_kernels(x),
        overlap=overlap, num_warps=warps,
    )  # fmt: skip
    return output
