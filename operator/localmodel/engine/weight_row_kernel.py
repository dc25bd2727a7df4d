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
from localmodel.engine.kernels import launch
from localmodel.engine.overlap_kernel import let_next_begin, wait_for_inputs

THREADS = 32
"""Of a warp; each has one chunk of a block, whole."""


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
def load_ends(scales, bias, n, ROWS: tl.constexpr, SCALED: tl.constexpr, BIASED: tl.constexpr):
    """What the sums of each row are multiplied with, and what is added then."""
    m = n + tl.arange(0, ROWS)
    factor = tl.full([ROWS], 1.0, tl.float32)
    addend = tl.zeros([ROWS], tl.float32)
    if SCALED:
        factor = tl.load(scales + m).to(tl.float32)
    if BIASED:
        addend = tl.load(bias + m).to(tl.float32)
    return factor, addend


@triton.jit
def store_sums(output, totals, ends, n, ROWS: tl.constexpr):
    """Adds up over the threads what each has of each row."""
    result = tl.sum(stacked(totals, ROWS), 0) * ends[0] + ends[1]
    tl.store(output + n + tl.arange(0, ROWS), result.to(output.dtype.element_ty))


@triton.jit
def _row_kernel(
    x, weight, bias, output, N,
    K: tl.constexpr, ROWS: tl.constexpr, CHUNKS: tl.constexpr, AHEAD: tl.constexpr, BIASED: tl.constexpr,
    OVERLAP: tl.constexpr = "",
):  # fmt: skip
    """A thread takes 8 numbers of `x` at a time and uses them for all ROWS."""
    n = first_row(N, ROWS)
    c = tl.arange(0, CHUNKS) * 8
    ends = load_ends(bias, bias, n, ROWS, False, BIASED)
    ahead = ()
    for i in tl.static_range(AHEAD):
        at = i * CHUNKS * 8 + c
        ahead = ahead + (load_rows(weight, n, at, at < K, K, ROWS, 8),)
    wait_for_inputs(OVERLAP)
    totals = (tl.zeros([CHUNKS], tl.float32),) * ROWS
    for start in range(0, K, CHUNKS * 8):
        at = start + c
        later = at + AHEAD * CHUNKS * 8
        ahead = ahead + (load_rows(weight, n, later, later < K, K, ROWS, 8),)
        part = load_numbers(x, at, at < K).to(tl.float32)
        sums = ()
        for r in tl.static_range(ROWS):
            sums = sums + (totals[r] + tl.sum(ahead[0][r].to(tl.float32) * part, 1),)
        totals = sums
        ahead = ahead[1:]
    let_next_begin(OVERLAP)
    store_sums(output, totals, ends, n, ROWS)


def at_most(rows: int, count: int) -> int:
    """A program's rows, which are a power of two, where a weight has only `count`."""
    return min(rows, 1 << (count.bit_length() - 1))


def multiply_row(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int = 1, ahead: int = 1, warps: int = 4) -> Tensor:
    """x [1, K] @ weight.T + bias -> [1, N]. K is a multiple of 8. `rows` of a program, `ahead`: blocks of them that are asked for
    before they are needed."""
    count, size = weight.shape
    rows = at_most(rows, count)
    output = torch.empty((1, count), dtype=x.dtype, device=x.device)
    launch(
        _row_kernel, (triton.cdiv(count, rows),), x, weight, x if bias is None else bias, output, count,
        K=size, ROWS=rows, CHUNKS=THREADS * warps, AHEAD=ahead, BIASED=bias is not None,
        overlap="early", num_warps=warps,
    )  # fmt: skip
    return output
