"""Products of one row with a weight of 8 or 4 bits in whole numbers, in Triton-the-language.

Why it exists: where each number of the weight becomes float32 first, a card spends four instructions on it. Here a thread makes
its 16 or 32 numbers of `x` whole, as step * (256 * high + low), once for all of its rows, and multiplies four at a time
(`dp4a`). The step is that of these few numbers: 16 bits of the largest, where
bfloat16 has 8 of each. Forms of a weight: see `weight_rows_kernel`; of a block: `weight_row_kernel`.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, uses_kernels
from localmodel.engine.weight_row_kernel import (
    at_most,
    first_row,
    halves,
    load_block4,
    load_numbers,
    load_rows,
    store_sums,
)

MOST = tl.constexpr(32512.0)
"""256 * 127: the largest whole number that a signed `high` and an unsigned `low` make together."""
# Four numbers times 1 / step. Added to one, 1.5 * 2^23 leaves it rounded in its low bits.
PLANES = tl.constexpr("""{
.reg .f32 f, more; .reg .b32 a, b, c, d;
mov.f32 more, 0f4B400000;
fma.rn.f32 f, $2, $6, more; mov.b32 a, f; fma.rn.f32 f, $3, $7, more; mov.b32 b, f;
fma.rn.f32 f, $4, $8, more; mov.b32 c, f; fma.rn.f32 f, $5, $9, more; mov.b32 d, f;
prmt.b32 a, a, b, 0x5140; prmt.b32 c, c, d, 0x5140;
prmt.b32 $0, a, c, 0x7632; prmt.b32 $1, a, c, 0x5410;
}""")
# One sum for eight elements: the other seven are 0, which the compiler knows. High halves of bytes stay where they are, so
# that sums with them are 16 times as large, and those of low halves are made so.
BYTES_PRODUCT = tl.constexpr("""{
.reg .b32 t;
mov.b32 t, 0; mov.b32 $1, t; mov.b32 $2, t; mov.b32 $3, t; mov.b32 $4, t; mov.b32 $5, t; mov.b32 $6, t; mov.b32 $7, t;
dp4a.s32.s32 t, $8, $10, t; dp4a.s32.s32 t, $9, $11, t; shl.b32 t, t, 8;
dp4a.s32.u32 t, $8, $12, t; dp4a.s32.u32 $0, $9, $13, t;
}""")
NIBBLES_PRODUCT = tl.constexpr("""{
.reg .b32 l, l2, h, h2, s, t;
mov.b32 t, 0; mov.b32 $1, t; mov.b32 $2, t; mov.b32 $3, t; mov.b32 $4, t; mov.b32 $5, t; mov.b32 $6, t; mov.b32 $7, t;
and.b32 l, $8, 0x0F0F0F0F; and.b32 l2, $9, 0x0F0F0F0F; and.b32 h, $8, 0xF0F0F0F0; and.b32 h2, $9, 0xF0F0F0F0;
dp4a.u32.s32 s, l, $10, t; dp4a.u32.s32 s, l2, $11, s; shl.b32 s, s, 4;
dp4a.u32.s32 s, h, $14, s; dp4a.u32.s32 s, h2, $15, s; shl.b32 s, s, 8;
dp4a.u32.u32 t, l, $12, t; dp4a.u32.u32 t, l2, $13, t; shl.b32 t, t, 4;
dp4a.u32.u32 t, h, $16, t; dp4a.u32.u32 t, h2, $17, t; add.s32 $0, s, t;
}""")
EIGHT = tl.constexpr(",".join(["=&r"] * 8))


@triton.jit
def larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def step_of(x, more):
    """[CHUNKS, 8] twice -> [CHUNKS]; of what is no number, none."""
    most = larger(tl.reduce(tl.abs(x), 1, larger), tl.reduce(tl.abs(more), 1, larger))
    return larger(most, 1e-30) / MOST


@triton.jit
def planes_of(x, inverse, FAST: tl.constexpr):
    """x / step -> (high, low); `low` holds 0 ... 255 whatever its type says."""
    if FAST:
        high, low = tl.inline_asm_elementwise(
            PLANES, "=&r,=&r,f,f,f,f,f,f,f,f", [x, inverse[:, None]], dtype=(tl.int8, tl.int8), is_pure=True, pack=4
        )
    else:
        number = tl.floor(x * inverse[:, None] + 0.5).to(tl.int32)
        high, low = (number >> 8).to(tl.int8), (number & 255).to(tl.int8)
    return high, low


@triton.jit
def whole(planes):
    return planes[0].to(tl.int32) * 256 + (planes[1].to(tl.int32) & 255)


@triton.jit
def bytes_product(w, x, FAST: tl.constexpr):
    """int8 [CHUNKS, 8] and planes of as many numbers -> whole numbers [CHUNKS]"""
    if FAST:
        eight = tl.inline_asm_elementwise(
            BYTES_PRODUCT, EIGHT + ",r,r,r,r,r,r", [w, x[0], x[1]], dtype=tl.int32, is_pure=True, pack=8
        )
    else:
        eight = w.to(tl.int32) * whole(x)
    return tl.sum(eight, 1)


@triton.jit
def nibbles_product(w, low, high, FAST: tl.constexpr):
    """uint8 [CHUNKS, 8] and planes for the low halves and for the high ones -> 16 times their whole numbers [CHUNKS]"""
    if FAST:
        eight = tl.inline_asm_elementwise(
            NIBBLES_PRODUCT, EIGHT + ",r,r,r,r,r,r,r,r,r,r", [w, low[0], low[1], high[0], high[1]], dtype=tl.int32,
            is_pure=True, pack=8,
        )  # fmt: skip
    else:
        eight = ((w & 15).to(tl.int32) * whole(low) + (w >> 4).to(tl.int32) * whole(high)) * 16
    return tl.sum(eight, 1)


@triton.jit
def _row8_planes_kernel(
    x, weight, scales, bias, output, N,
    K: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    n = first_row(N, ROWS)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K, CHUNKS * 16):
        at = start + tl.arange(0, CHUNKS) * 16
        inside = at < K
        w = load_rows(weight, n, at, inside, K, ROWS, 16)
        x1, x2 = load_numbers(x, at, inside).to(tl.float32), load_numbers(x, at + 8, inside).to(tl.float32)
        step = step_of(x1, x2)
        p1, p2 = planes_of(x1, 1 / step, FAST), planes_of(x2, 1 / step, FAST)
        sums = ()
        for r in tl.static_range(ROWS):
            first, second = halves(w[r])
            product = bytes_product(first, p1, FAST) + bytes_product(second, p2, FAST)
            sums = sums + (totals[r] + product.to(tl.float32) * step,)
        totals = sums
    store_sums(output, bias, scales, totals, n, ROWS, True, BIASED)


@triton.jit
def _row4_planes_kernel(
    x, weight, scales, minima, bias, output, N,
    K: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, BIASED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    n = first_row(N, ROWS)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K // 2, CHUNKS * 16):
        at = start + tl.arange(0, CHUNKS) * 16
        w, factors, lowest, low1, low2, high1, high2 = load_block4(x, weight, scales, minima, n, at, K, G, ROWS)
        x_sum = tl.sum((low1 + low2) + (high1 + high2), 1)
        step = larger(step_of(low1, low2), step_of(high1, high2))
        inverse, sixteenth = 1 / step, step / 16
        first_low, first_high = planes_of(low1, inverse, FAST), planes_of(high1, inverse, FAST)
        second_low, second_high = planes_of(low2, inverse, FAST), planes_of(high2, inverse, FAST)
        sums = ()
        for r in tl.static_range(ROWS):
            first, second = halves(w[r])
            product = nibbles_product(first, first_low, first_high, FAST)
            product += nibbles_product(second, second_low, second_high, FAST)
            total = totals[r] + product.to(tl.float32) * (factors[r].to(tl.float32) * sixteenth)
            sums = sums + (total + x_sum * lowest[r].to(tl.float32),)
        totals = sums
    store_sums(output, bias, scales, totals, n, ROWS, False, BIASED)


def multiply_row_planes(
    x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int, group: int,
    rows: int = 8, chunks: int = 32, warps: int = 1,
) -> Tensor:  # fmt: skip
    """x [1, K] @ weight.T + bias -> [1, N] for a weight of 8 bits, K a multiple of 16, or of 4 bits."""
    count, size = weight.shape[0], x.shape[1]
    rows = at_most(rows, count)
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    tables, form = ((scales,), {}) if bits == 8 else ((scales, minima), {"G": group})
    launch(
        _row8_planes_kernel if bits == 8 else _row4_planes_kernel, (triton.cdiv(count, rows),),
        x, weight, *tables, x if bias is None else bias, output, count,
        K=size, **form, ROWS=rows, CHUNKS=chunks, BIASED=bias is not None, FAST=uses_kernels(x), num_warps=warps,
    )  # fmt: skip
    return output
