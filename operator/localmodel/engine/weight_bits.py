"""How four or eight bits become numbers in a kernel, in Triton-the-language and the card's own instructions.

Why it exists: the compiler's conversion of small integers is slow, and the products of a few rows live on it. It knows
nothing of matrices.
"""

import triton.language as tl

import triton

# Four bytes in a register become numbers without the slow conversion: bits are put under the exponent of a power of two,
# which is then subtracted. Triton's interpreter has no registers, so there it is said plainly.
# Subtracted by a multiplication with one, or minus one: cards before Hopper have no other difference of two bfloat16.
NIBBLES_BFLOAT16 = tl.constexpr("""{
.reg .b32 l, h, c, one;
mov.b32 c, 0xC300C300; mov.b32 one, 0x3F803F80;
and.b32 l, $4, 0x0F0F0F0F;
shr.u32 h, $4, 4;
and.b32 h, h, 0x0F0F0F0F;
prmt.b32 $0, l, 0x43434343, 0x4140; fma.rn.bf16x2 $0, $0, one, c;
prmt.b32 $1, l, 0x43434343, 0x4342; fma.rn.bf16x2 $1, $1, one, c;
prmt.b32 $2, h, 0x43434343, 0x4140; fma.rn.bf16x2 $2, $2, one, c;
prmt.b32 $3, h, 0x43434343, 0x4342; fma.rn.bf16x2 $3, $3, one, c;
}""")
BYTES_BFLOAT16 = tl.constexpr("""{
.reg .b32 a, b, minus;
mov.b32 minus, 0xBF80BF80;
prmt.b32 $0, $2, 0x43434343, 0x4140;
prmt.b32 $1, $2, 0x43434343, 0x4342;
and.b32 a, $0, 0xFF7FFF7F; and.b32 b, $0, 0xFF80FF80; fma.rn.bf16x2 $0, b, minus, a;
and.b32 a, $1, 0xFF7FFF7F; and.b32 b, $1, 0xFF80FF80; fma.rn.bf16x2 $1, b, minus, a;
}""")


BYTES_FLOAT = tl.constexpr("""{
.reg .b32 t;
xor.b32 t, $4, 0x80808080;
prmt.b32 $0, t, 0x47000000, 0x7404; add.rn.f32 $0, $0, 0fC7008000;
prmt.b32 $1, t, 0x47000000, 0x7414; add.rn.f32 $1, $1, 0fC7008000;
prmt.b32 $2, t, 0x47000000, 0x7424; add.rn.f32 $2, $2, 0fC7008000;
prmt.b32 $3, t, 0x47000000, 0x7434; add.rn.f32 $3, $3, 0fC7008000;
}""")

# Two bytes at a time: bfloat16 of both; or of both low halves and both high ones, times a scale, plus a minimum.
BYTE_PAIRS = tl.constexpr("""{
.reg .b32 a, b;
cvt.u32.u16 a, $2;
prmt.b32 a, a, 0x43434343, 0x4140;
and.b32 b, a, 0xFF80FF80; and.b32 a, a, 0xFF7FFF7F; sub.rn.bf16x2 a, a, b;
mov.b32 {$0, $1}, a;
}""")
NIBBLE_PAIRS = tl.constexpr("""{
.reg .b32 p, l, h, s, m, c;
cvt.u32.u16 p, $4; mov.b32 s, {$5, $5}; mov.b32 m, {$6, $6}; mov.b32 c, 0x43004300;
and.b32 l, p, 0x0F0F0F0F;
shr.u32 h, p, 4; and.b32 h, h, 0x0F0F0F0F;
prmt.b32 l, l, 0x43434343, 0x4140; sub.rn.bf16x2 l, l, c; fma.rn.bf16x2 l, l, s, m;
prmt.b32 h, h, 0x43434343, 0x4140; sub.rn.bf16x2 h, h, c; fma.rn.bf16x2 h, h, s, m;
mov.b32 {$0, $1}, l; mov.b32 {$2, $3}, h;
}""")


@triton.jit
def nibbles(packed, dtype: tl.constexpr, FAST: tl.constexpr):
    """uint8 [...] -> (low, high) as numbers."""
    if FAST and dtype == tl.bfloat16:
        low, high = tl.inline_asm_elementwise(
            NIBBLES_BFLOAT16, "=&r,=&r,=&r,=&r,r", [packed], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=4
        )
    else:
        low, high = (packed & 15).to(tl.float32).to(dtype), (packed >> 4).to(tl.float32).to(dtype)
    return low, high


@triton.jit
def signed_bytes(packed, dtype: tl.constexpr, FAST: tl.constexpr):
    """int8 [...] -> numbers; 16-bit weights stay as they are."""
    if FAST and dtype == tl.bfloat16 and packed.dtype == tl.int8:
        number = tl.inline_asm_elementwise(BYTES_BFLOAT16, "=&r,=&r,r", [packed], dtype=tl.bfloat16, is_pure=True, pack=4)
    elif FAST and dtype == tl.float32 and packed.dtype == tl.int8:
        number = tl.inline_asm_elementwise(BYTES_FLOAT, "=&f,=&f,=&f,=&f,r", [packed], dtype=tl.float32, is_pure=True, pack=4)
    else:
        number = packed.to(dtype)
    return number
