"""The parts of tiles that `weight_hopper_kernel` cut along K, added up, in Triton-the-language.

Why it exists: a part is written as it lies in registers, so that no thread computes a place for each number (155 instructions for
128 numbers, 870 before); whoever adds them knows what lies where. In the same order every time.

A part of a tile is [2 groups of warps, columns / 8, 512]: LINES rows of the weight by COLUMNS rows of x, in an order that
`unravel` knows.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, overlap_of
from localmodel.engine.overlap_kernel import wait_for_inputs
from localmodel.engine.weight_rows_kernel import AT_ONCE

LINES = tl.constexpr(64)
"""Of a group of warps."""
COLUMNS = tl.constexpr(8)


@triton.jit
def unravel(part):
    """[512] -> [COLUMNS, LINES]. Bits of a place: the column's last, the line's third, its first two, its last three, the
    column's first two; so a warp's threads hold what it multiplied."""
    return part.reshape([2, 2, 4, 8, 4]).permute([4, 0, 2, 1, 3]).reshape([COLUMNS, LINES])


@triton.jit(do_not_specialize=["M", "biased", "whole", "splits", "blocks", "columns"])
def sum_tiles_kernel(
    partials, scales, bias, output, M, N, biased, whole, splits, blocks, columns, BITS: tl.constexpr,
    OVERLAP: tl.constexpr = "",
):  # fmt: skip
    m = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    n = (whole * 2 + tl.program_id(0)) * LINES + tl.arange(0, LINES)
    added = tl.load(bias + n, mask=n < biased, other=0.0).to(tl.float32)
    if BITS == 8:
        scale = tl.load(scales + n, mask=n < N, other=0.0).to(tl.float32)
    wait_for_inputs(OVERLAP)
    column = tl.program_id(1) * COLUMNS
    tile = tl.program_id(0) // 2 * blocks + column // columns
    size = columns * LINES
    place = partials + tl.program_id(0) % 2 * size + column % columns * LINES + tl.arange(0, COLUMNS * LINES)
    total = tl.zeros([COLUMNS * LINES], tl.float32)
    for first in range(0, splits, AT_ONCE):
        parts = ()
        for at in tl.static_range(AT_ONCE):
            parts += (tl.load(place + (tile * splits + tl.minimum(first + at, splits - 1)) * 2 * size),)
        for at in tl.static_range(AT_ONCE):
            total += tl.where(first + at < splits, parts[at], 0.0)
    result = unravel(total)
    if BITS == 8:
        result *= scale[None, :]
    result += added[None, :]
    wanted = (m < M)[:, None] & (n < N)[None, :]
    tl.store(output + m.to(tl.int64)[:, None] * N + n[None, :], result.to(output.dtype.element_ty), mask=wanted)


def sum_tiles(
    partials: Tensor, scales: Tensor, bias: Tensor | None, output: Tensor, whole: int, splits: int, columns: int, bits: int
) -> None:
    """partials: `splits` parts of each tile behind the `whole` ones, tiles over the rows of x fastest. Their sums, times scales
    with 8 bits, plus bias -> output [M, N], where those tiles lie."""
    rows, count = output.shape
    blocks = triton.cdiv(rows, columns)
    whole //= blocks
    launch(
        sum_tiles_kernel, (2 * (triton.cdiv(count, 2 * LINES.value) - whole), triton.cdiv(rows, COLUMNS.value)),
        partials, scales, output if bias is None else bias, output, rows, count, 0 if bias is None else count, whole, splits,
        blocks, columns, BITS=bits, overlap=overlap_of(rows) or "early", num_warps=4,
    )  # fmt: skip


def room_for(parts: int, columns: int, like: Tensor) -> Tensor:
    """Of as many parts of tiles."""
    return torch.empty((parts, columns * 2 * LINES.value), dtype=torch.float32, device=like.device)
