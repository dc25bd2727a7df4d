"""How four or eight bits become numbers in a kernel, in Triton-the-language and the card's own instructions.

Why it exists: the compiler's conversion of small integers is slow, and the products of `weight_kernels` live on it. It knows
nothing of matrices.
"""

import triton.language as tl

import triton

# Four bytes in a register become numbers without the slow conversion: bits are put under the exponent of a power of two,
# which is then subtracted. Triton's interpreter has no registers, so there it is said plainly.
NIBBLES_FLOAT = tl.constexpr("""{
.reg .b32 h, t;
shr.u32 h, $8, 16;
lop3.b32 t, $8, 0x0000000F, 0x4B000000, 0xEA; fma.rn.f32 $0, t, 0f3F800000, 0fCB000000;
lop3.b32 t, $8, 0x000000F0, 0x4B000000, 0xEA; fma.rn.f32 $4, t, 0f3D800000, 0fC9000000;
lop3.b32 t, $8, 0x00000F00, 0x4B000000, 0xEA; fma.rn.f32 $1, t, 0f3B800000, 0fC7000000;
lop3.b32 t, $8, 0x0000F000, 0x4B000000, 0xEA; fma.rn.f32 $5, t, 0f39800000, 0fC5000000;
lop3.b32 t, h, 0x0000000F, 0x4B000000, 0xEA; fma.rn.f32 $2, t, 0f3F800000, 0fCB000000;
lop3.b32 t, h, 0x000000F0, 0x4B000000, 0xEA; fma.rn.f32 $6, t, 0f3D800000, 0fC9000000;
lop3.b32 t, h, 0x00000F00, 0x4B000000, 0xEA; fma.rn.f32 $3, t, 0f3B800000, 0fC7000000;
lop3.b32 t, h, 0x0000F000, 0x4B000000, 0xEA; fma.rn.f32 $7, t, 0f39800000, 0fC5000000;
}""")
NIBBLES_BFLOAT16 = tl.constexpr("""{
.reg .b32 l, h, c;
mov.b32 c, 0x43004300;
and.b32 l, $4, 0x0F0F0F0F;
shr.u32 h, $4, 4;
and.b32 h, h, 0x0F0F0F0F;
prmt.b32 $0, l, 0x43434343, 0x4140; sub.rn.bf16x2 $0, $0, c;
prmt.b32 $1, l, 0x43434343, 0x4342; sub.rn.bf16x2 $1, $1, c;
prmt.b32 $2, h, 0x43434343, 0x4140; sub.rn.bf16x2 $2, $2, c;
prmt.b32 $3, h, 0x43434343, 0x4342; sub.rn.bf16x2 $3, $3, c;
}""")
BYTES_BFLOAT16 = tl.constexpr("""{
.reg .b32 a, b;
prmt.b32 $0, $2, 0x43434343, 0x4140;
prmt.b32 $1, $2, 0x43434343, 0x4342;
and.b32 a, $0, 0xFF7FFF7F; and.b32 b, $0, 0xFF80FF80; sub.rn.bf16x2 $0, a, b;
and.b32 a, $1, 0xFF7FFF7F; and.b32 b, $1, 0xFF80FF80; sub.rn.bf16x2 $1, a, b;
}""")


@triton.jit
def nibbles(packed, dtype: tl.constexpr, FAST: tl.constexpr):
    """uint8 [...] -> (low, high) as numbers."""
    if FAST and dtype == tl.float32:
        low, high = tl.inline_asm_elementwise(
            NIBBLES_FLOAT, "=&f,=&f,=&f,=&f,=&f,=&f,=&f,=&f,r", [packed], dtype=(tl.float32, tl.float32), is_pure=True, pack=4
        )
    elif FAST and dtype == tl.bfloat16:
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
    else:
        number = packed.to(dtype)
    return number
