"""Products of one row with a weight of 8 or 4 bits in whole numbers, in Triton-the-language.

Why it exists: where each number of the weight becomes float32 first, a card spends four instructions on it. Here a thread makes
its 16 or 32 numbers of `x` whole, as step * (256 * high + low), once for all of its rows, and multiplies four at a time
(`dp4a`). The step is that of these few numbers: 16 bits of the largest, where bfloat16 has 8 of each. Forms of a weight: see
`weight_rows_kernel`; of a block: `weight_row_kernel`.

Four numbers of 8 bits are one word everywhere: as bytes, what waits for its turn in registers would be taken apart and put
together again.
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
    load_numbers,
    load_of_groups,
    load_rows,
    store_sums,
)

MOST = tl.constexpr(32512.0)
"""256 * 127: the largest whole number that a signed `high` and an unsigned `low` make together."""
# Four numbers times 1 / step. Added to one, 1.5 * 2^23 leaves it rounded in its low bits.
PLANES = tl.constexpr("""{
.reg .f32 f, more; .reg .b32 a, b, c, d;
mov.f32 more, 0f4B400000;
fma.rn.f32 f, $2, $6, more; mov.b32 a, f; fma.rn.f32 f, $3, $6, more; mov.b32 b, f;
fma.rn.f32 f, $4, $6, more; mov.b32 c, f; fma.rn.f32 f, $5, $6, more; mov.b32 d, f;
prmt.b32 a, a, b, 0x5140; prmt.b32 c, c, d, 0x5140;
prmt.b32 $0, a, c, 0x7632; prmt.b32 $1, a, c, 0x5410;
}""")
# One sum for two words: the other is 0, which the compiler knows. High halves of bytes stay where they are, so that sums with
# them are 16 times as large, and those of low halves are made so.
BYTES_PRODUCT = tl.constexpr("""{
.reg .b32 t;
mov.b32 t, 0; mov.b32 $1, t;
dp4a.s32.s32 t, $2, $4, t; dp4a.s32.s32 t, $3, $5, t; shl.b32 t, t, 8;
dp4a.s32.u32 t, $2, $6, t; dp4a.s32.u32 $0, $3, $7, t;
}""")
NIBBLES_PRODUCT = tl.constexpr("""{
.reg .b32 l, l2, h, h2, s, t;
mov.b32 t, 0; mov.b32 $1, t;
and.b32 l, $2, 0x0F0F0F0F; and.b32 l2, $3, 0x0F0F0F0F; and.b32 h, $2, 0xF0F0F0F0; and.b32 h2, $3, 0xF0F0F0F0;
dp4a.u32.s32 s, l, $4, t; dp4a.u32.s32 s, l2, $5, s; shl.b32 s, s, 4;
dp4a.u32.s32 s, h, $8, s; dp4a.u32.s32 s, h2, $9, s; shl.b32 s, s, 8;
dp4a.u32.u32 t, l, $6, t; dp4a.u32.u32 t, l2, $7, t; shl.b32 t, t, 4;
dp4a.u32.u32 t, h, $10, t; dp4a.u32.u32 t, h2, $11, t; add.s32 $0, s, t;
}""")


@triton.jit
def larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def load_fours(x, at, inside):
    """8 numbers from each of `at` [CHUNKS] on -> the first, second, third and fourth of both words, float32 [CHUNKS, 2] each."""
    eight = load_numbers(x, at, inside).to(tl.float32)
    even, odd = tl.split(tl.reshape(eight, [eight.shape[0], 2, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def most_of(fours):
    """The largest [CHUNKS]; of what is no number, none."""
    most = larger(larger(tl.abs(fours[0]), tl.abs(fours[1])), larger(tl.abs(fours[2]), tl.abs(fours[3])))
    return tl.reduce(most, 1, larger)


@triton.jit
def sum_of(fours):
    return tl.sum((fours[0] + fours[1]) + (fours[2] + fours[3]), 1)


@triton.jit
def planes_of(fours, inverse, FAST: tl.constexpr):
    """x / step -> (high, low), words [CHUNKS, 2]"""
    if FAST:
        high, low = tl.inline_asm_elementwise(
            PLANES, "=&r,=&r,f,f,f,f,f", [fours[0], fours[1], fours[2], fours[3], inverse[:, None]],
            dtype=(tl.int32, tl.int32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        high = tl.zeros(fours[0].shape, tl.int32)
        low = high
        for place in tl.static_range(4):
            number = tl.floor(fours[place] * inverse[:, None] + 0.5).to(tl.int32)
            high |= (number >> 8 & 255) << 8 * place
            low |= (number & 255) << 8 * place
    return high, low


@triton.jit
def whole(planes, PLACE: tl.constexpr):
    """Of both words the number at PLACE."""
    return (planes[0] << 24 - 8 * PLACE >> 24) * 256 + (planes[1] >> 8 * PLACE & 255)


@triton.jit
def bytes_product(w, x, FAST: tl.constexpr):
    """Words of int8 [CHUNKS, 2] and planes of as many numbers -> whole numbers [CHUNKS]"""
    if FAST:
        two = tl.inline_asm_elementwise(
            BYTES_PRODUCT, "=&r,=&r,r,r,r,r,r,r", [w, x[0], x[1]], dtype=tl.int32, is_pure=True, pack=2
        )
    else:
        two = tl.zeros(w.shape, tl.int32)
        for place in tl.static_range(4):
            two += (w << 24 - 8 * place >> 24) * whole(x, place)
    return tl.sum(two, 1)


@triton.jit
def nibbles_product(w, low, high, FAST: tl.constexpr):
    """Words of halves [CHUNKS, 2] and planes for the low ones and for the high ones -> 16 times their whole numbers [CHUNKS]"""
    if FAST:
        two = tl.inline_asm_elementwise(
            NIBBLES_PRODUCT, "=&r,=&r,r,r,r,r,r,r,r,r,r,r", [w, low[0], low[1], high[0], high[1]], dtype=tl.int32,
            is_pure=True, pack=2,
        )  # fmt: skip
    else:
        two = tl.zeros(w.shape, tl.int32)
        for place in tl.static_range(4):
            byte = w >> 8 * place
            two += ((byte & 15) * whole(low, place) + (byte >> 4 & 15) * whole(high, place)) * 16
    return tl.sum(two, 1)


@triton.jit
def halves(words):
    """[CHUNKS, 4] -> its first two and its last two, in the registers that they were read into."""
    return tl.split(tl.permute(tl.reshape(words, [words.shape[0], 2, 2]), [0, 2, 1]))


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
