"""How numbers of one row become whole and are multiplied with numbers of 8 or 4 bits, in Triton-the-language and the card's own
instructions.

Why it exists: a card multiplies four bytes at a time (`dp4a`), so a number is two of them: step * (256 * high + low). Four bytes
are one word everywhere: as bytes, what waits for its turn in registers would be taken apart and put together again. A thread must
hold both words of each pair. It knows nothing of matrices.
"""

import triton.language as tl

import triton
from localmodel.engine.weight_row_kernel import load_numbers

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
