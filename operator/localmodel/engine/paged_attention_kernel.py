"""Attention of one query a sequence (decode) over a paged cache on a card, in Triton-the-language.

Why it exists: it reads keys and values through block tables, in place, for every head of a group at once, and does not
depend on anything the host decides after a CUDA graph was captured: lengths come from device tensors. It must not know
about the scheduler. Scores are kept in base 2. Shapes: A heads, K kv_heads, D head_dim, G = A / K.

Only `Attention` of a card calls it; tests also run it in Triton's interpreter.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch, overlap_of
from localmodel.engine.overlap_kernel import wait_for_inputs

LOG2_E = 1.4426950408889634
DECODE_TILE = 64
"""Keys that a program of decode looks at together; half as many where they are wide float32, for which a card may lack room."""
MOST_SPLITS = 32
PROGRAMS = 528
"""As many as keep a card of 132 multiprocessors busy, four on each."""


@triton.jit(do_not_specialize=["table_stride", "window", "splits"])
def _decode_kernel(
    queries, keys, values, tables, slots, positions, output, partials, logsums, scale, table_stride, window, splits,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, G_PAD: tl.constexpr,
    PAGE: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr, PRECISION: tl.constexpr, OVERLAP: tl.constexpr = "",
):  # fmt: skip
    row = tl.program_id(0)
    head = tl.program_id(1)
    split = tl.program_id(2)
    group: tl.constexpr = HEADS // KV_HEADS
    wait_for_inputs(OVERLAP)
    length = tl.load(positions + row) + 1
    first = tl.maximum(length - window, 0) // TILE * TILE
    each = tl.cdiv(tl.cdiv(length - first, TILE), splits) * TILE
    start = first + split * each
    end = tl.minimum(start + each, length)
    table = tables + tl.load(slots + row).to(tl.int64) * table_stride
    g = tl.arange(0, G_PAD)
    d = tl.arange(0, D_PAD)
    n = tl.arange(0, TILE)
    real = (g < group)[:, None] & (d < D)[None, :]
    heads = head * group + g
    query = tl.load(queries + (row * HEADS + heads)[:, None] * D + d[None, :], mask=real, other=0.0)
    best = tl.full([G_PAD], float("-inf"), tl.float32)
    total = tl.zeros([G_PAD], tl.float32)
    mixed = tl.zeros([G_PAD, D_PAD], tl.float32)
    for at in range(start, end, TILE):
        index = at + n
        inside = (index < end) & (index >= length - window)
        if PAGE % TILE == 0:
            base = tl.load(table + at // PAGE).to(tl.int64) * PAGE + at % PAGE + n
        else:
            base = tl.load(table + index // PAGE, mask=inside, other=0).to(tl.int64) * PAGE + index % PAGE
        base = (base * KV_HEADS + head) * D
        loaded = inside[:, None] & (d < D)[None, :]
        key = tl.load(keys + base[:, None] + d[None, :], mask=loaded, other=0.0)
        value = tl.load(values + base[:, None] + d[None, :], mask=loaded, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
        score = tl.where(inside[None, :], score, float("-inf"))
        better = tl.maximum(tl.maximum(best, tl.max(score, 1)), -1e30)
        weight = tl.exp2(score - better[:, None])
        fade = tl.exp2(best - better)
        total = total * fade + tl.sum(weight, 1)
        mixed = mixed * fade[:, None] + tl.dot(weight.to(value.dtype), value, input_precision=PRECISION)
        best = better
    if WHOLE:
        result = mixed / total[:, None]
        tl.store(output + (row * HEADS + heads)[:, None] * D + d[None, :], result.to(output.dtype.element_ty), mask=real)
    else:
        place = (row * HEADS + heads) * splits + split
        # A split of nothing is left out by its logarithm, so its partial need not be written.
        tl.store(logsums + place, tl.where(total > 0, best + tl.log2(total), float("-inf")), mask=g < group)
        if end > start:
            tl.store(partials + place[:, None] * D + d[None, :], mixed / total[:, None], mask=real)


@triton.jit(do_not_specialize=["splits"])
def _combine_kernel(
    partials, logsums, output, splits, D: tl.constexpr, D_PAD: tl.constexpr, MOST: tl.constexpr, OVERLAP: tl.constexpr = ""
):
    row = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, MOST)
    d = tl.arange(0, D_PAD)
    wait_for_inputs(OVERLAP)
    logsum = tl.load(logsums + row * splits + s, mask=s < splits, other=float("-inf"))
    there = (s < splits)[:, None] & (d < D)[None, :]
    part = tl.load(partials + (row * splits + s)[:, None] * D + d[None, :], mask=there, other=0.0)
    share = tl.exp2(logsum - tl.max(logsum, 0))
    # What a split of nothing has not written may be no number at all.
    result = tl.sum(tl.where((share > 0)[:, None], part * share[:, None], 0.0), 0) / tl.sum(share, 0)
    tl.store(output + row * D + d, result.to(output.dtype.element_ty), mask=d < D)


def count_splits(rows: int, kv_heads: int, context: int) -> int:
    """Into how many parts each sequence's keys are cut: a function of the batch's size, never of lengths."""
    return max(1, min(MOST_SPLITS, PROGRAMS // (rows * kv_heads), triton.cdiv(context, DECODE_TILE)))


def decode_attention(
    queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, slots: Tensor, positions: Tensor, output: Tensor, *,
    page: int, scale: float, context: int, window: int | None = None,
) -> None:  # fmt: skip
    """Fills output [R, A, D] from queries [R, A, D], both contiguous: row r attends to positions 0 ... positions[r] of slot
    slots[r], or to the last `window` of them.

    keys, values [tokens, K, D]; tables [slots, pages] int32; slots, positions [R] integers.
    """
    rows, heads, size = queries.shape
    kv_heads = keys.shape[1]
    splits = count_splits(rows, kv_heads, context)
    parts = splits if splits > 1 else 0
    partials = torch.empty((rows, heads, parts, size), dtype=torch.float32, device=queries.device)
    logsums = torch.empty((rows, heads, parts), dtype=torch.float32, device=queries.device)
    wide = triton.next_power_of_2(max(16, size))
    exact = queries.dtype == torch.float32
    launch(
        _decode_kernel, (rows, kv_heads, splits),
        queries, keys, values, tables, slots, positions, output, partials, logsums, scale * LOG2_E, tables.stride(0),
        window or context, splits, HEADS=heads, KV_HEADS=kv_heads, D=size, D_PAD=wide,
        G_PAD=max(16, triton.next_power_of_2(heads // kv_heads)), PAGE=page, WHOLE=splits == 1,
        TILE=DECODE_TILE // 2 if exact and wide > 128 else DECODE_TILE, PRECISION="ieee",
        overlap=overlap_of(rows), num_warps=8 if exact else 4, num_stages=2 if exact else 3,
    )  # fmt: skip
    if splits > 1:
        combine(partials, logsums, output, overlap_of(rows))


def combine(partials: Tensor, logsums: Tensor, output: Tensor, overlap: str = "") -> None:
    """partials [R, A, S, D] and logsums [R, A, S] of parts of the keys -> output [R, A, D]."""
    rows, heads, splits, size = partials.shape
    launch(
        _combine_kernel, (rows * heads,),
        partials, logsums, output, splits,
        D=size, D_PAD=triton.next_power_of_2(max(16, size)), MOST=triton.next_power_of_2(splits), overlap=overlap, num_warps=4,
    )  # fmt: skip
