"""Numbers of 8 or 4 bits made bfloat16 in the registers from which a group of warps multiplies, in Gluon.

Why it exists: `weight_hopper_kernel` says what is multiplied when, this how a number is read. Forms of a weight: see
`weight_rows_kernel`.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from localmodel.engine.weight_bits import BYTE_PAIRS, NIBBLE_PAIRS

HEIGHT = gl.constexpr(64)
"""Rows of the weight that a group of warps multiplies."""


@gluon.jit
def steps_of(scales, minima, place, BITS: gl.constexpr):
    scale, minimum = place, place
    if BITS == 4:
        scale = gl.load(scales + place)
        minimum = gl.load(minima + place)
    return scale, minimum


@gluon.jit
def _pairs(first, second, layout: gl.constexpr):
    return gl.convert_layout(gl.join(first, second).reshape([HEIGHT, 64]), layout, assert_trivial=True)


@gluon.jit
def numbers_of(packed, scale, minimum, BITS: gl.constexpr, operand: gl.constexpr):
    """packed [64, 32] int16 -> [64, 64] of a step's first numbers and of its second, which with 8 bits are the same."""
    if BITS == 4:
        s, _ = gl.broadcast(gl.expand_dims(scale, 1), packed)
        least, _ = gl.broadcast(gl.expand_dims(minimum, 1), packed)
        a, b, c, d = gl.inline_asm_elementwise(
            NIBBLE_PAIRS, "=h,=h,=h,=h,h,h,h", [packed, s, least], dtype=(gl.bfloat16, gl.bfloat16, gl.bfloat16, gl.bfloat16),
            is_pure=True, pack=1,
        )  # fmt: skip
        first, second = _pairs(a, b, operand), _pairs(c, d, operand)
    else:
        a, b = gl.inline_asm_elementwise(BYTE_PAIRS, "=h,=h,h", [packed], dtype=(gl.bfloat16, gl.bfloat16), is_pure=True, pack=1)
        first = _pairs(a, b, operand)
        second = first
    return first, second
