"""How work is cut for `weight_hopper_kernel`, and its launch.

Why it exists: tiles are large, so that few of a layer's matrices have as many as a card has multiprocessors. What no whole
turn of all programs is left for is cut along K, and the parts are summed. It does not choose between kernels.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from localmodel.engine.kernels import launch
from localmodel.engine.weight_hopper_kernel import HEIGHT, product_kernel
from localmodel.engine.weight_hopper_sum import room_for, sum_tiles

STAGES = {16: (9, 8), 32: (8, 6), 64: (6, 4), 96: (8, 6), 128: (7, 5), 192: (5, 4), 256: (4, 3)}
"""Steps on their way with 8 and with 4 bits, by rows of x in a tile: as many as fit into a multiprocessor's memory."""
SMALL = 64
"""Rows of x in a tile up to which two programs share a multiprocessor, with half the memory and registers each."""
REGISTERS = {1: (168, 240), 2: (80, 104)}
"""Of each thread at launch, and of one that multiplies, by programs on a multiprocessor."""
GROUP = 128
"""Of 4 bits: a step."""
LEAST_STEPS = 4
"""That are worth a part of their own."""
FULL = 0.8
"""A last turn of so many of the programs is not cut."""
PARTS = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
ROWS = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)


class Work(NamedTuple):
    blocks: int
    """Tiles over the rows of x."""
    whole: int
    """Tiles that are computed by one program each; they come first."""
    splits: int
    """Parts of K of the others."""
    items: int


def plan_work(rows: int, count: int, steps: int, columns: int, programs: int) -> Work:
    """`rows` of x, in tiles of `columns`; `count` rows of the weight, of `steps` each."""
    blocks = -(-rows // columns)
    tiles = -(-count // (2 * HEIGHT.value)) * blocks
    whole = tiles // programs * programs // blocks * blocks
    rest = tiles - whole
    splits = min(programs // rest, steps // LEAST_STEPS) if 0 < rest <= FULL * programs else 1
    if splits < 2:
        return Work(blocks, tiles, 1, tiles)
    splits = -(-steps // -(-steps // splits))  # so that none is empty
    return Work(blocks, whole, splits, whole + rest * splits)


def choose_columns(rows: int) -> int:
    """Two tiles of 192 are less than two of 256 that are half empty."""
    return 192 if 256 < rows <= 384 else next((columns for columns in STAGES if columns >= rows), max(STAGES))


def piece_of(columns: int) -> int:
    """Of a tile: the largest power of two that it is a multiple of."""
    return columns & -columns


@cache
def _card(device: torch.device) -> tuple[bool, int]:
    """(whether it has warpgroup products, multiprocessors)"""
    if device.type != "cuda":  # kernels that are interpreted
        return False, 0
    return torch.cuda.get_device_capability(device)[0] == 9, torch.cuda.get_device_properties(device).multi_processor_count


def fits(x: Tensor, weight: Tensor, bits: int, group: int) -> bool:
    """Rows of all matrices have to begin at multiples of 16 bytes and be whole steps, of which groups are one each."""
    aligned = weight.shape[0] % 8 == 0 and weight.shape[1] % 64 == 0 and x.data_ptr() % 16 == 0
    return x.dtype == torch.bfloat16 and aligned and (bits == 8 or group == GROUP) and _card(x.device)[0]


def multiply_many(x: Tensor, weight: Tensor, scales: Tensor, minima: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """x [M, K] bfloat16, contiguous, @ weight.T + bias -> [M, N], where it `fits`."""
    rows, count = x.shape[0], weight.shape[0]
    columns = choose_columns(rows)
    shared = 2 if columns <= SMALL else 1
    programs = shared * _card(x.device)[1]
    steps = weight.shape[1] // 64
    work = plan_work(rows, count, steps, columns, programs)
    output = torch.empty((rows, count), dtype=x.dtype, device=x.device)
    partials = room_for(work.items - work.whole if work.splits > 1 else 0, columns, x)
    height = HEIGHT.value
    piece = piece_of(columns)
    launch(
        product_kernel, (min(programs, work.items),),
        scales, minima, x if bias is None else bias, partials,
        TensorDescriptor.from_tensor(weight.view(torch.int16), [height, 32], PARTS),
        TensorDescriptor.from_tensor(x, [piece, 64], ROWS),
        TensorDescriptor.from_tensor(output, [piece, height], ROWS),
        rows, count, 0 if bias is None else count, work.items, work.whole, work.splits, steps, work.blocks,
        BITS=bits, COLUMNS=piece, PIECES=columns // piece, STAGES=STAGES[columns][bits == 4], REGISTERS=REGISTERS[shared][1],
        overlap="early", num_warps=4, maxnreg=REGISTERS[shared][0],
    )  # fmt: skip
    if work.splits > 1:
        sum_tiles(partials, scales, bias, output, work.whole, work.splits, columns, bits)
    return output
