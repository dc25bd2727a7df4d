"""Attention of chunks of prompts over a paged cache on a card, in Triton-the-language.

Why it exists: a chunk has many queries that read the same keys, so the tensor cores decide, and a chunk behind a long past
has too few programs to fill a card: its keys are cut into parts, which are joined afterwards. It must not know about the
scheduler. Scores are kept in base 2. Shapes: A heads, K kv_heads, D head_dim.
"""

import torch
import triton.language as tl
from torch import Tensor

import triton
from localmodel.engine.kernels import launch
from localmodel.engine.paged_attention_kernel import LOG2_E, MOST_SPLITS, combine

LEAST_CHUNK_KEYS = 512
"""Keys of a part of a prompt's past: with fewer, joining the parts costs more than they save."""
MOST_CHUNK_PROGRAMS = 1056
"""Of a chunk cut into parts: it bounds the memory that the parts take."""
CHUNK_PROGRAMS_AT_ONCE = 264
"""Two on each of 132 multiprocessors."""


@triton.jit(do_not_specialize=["table_stride", "window", "splits"])
def _chunk_kernel(
    queries, keys, values, tables, tiles, output, partials, logsums, scale, table_stride, window, splits, first_row,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, PAGE: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr, WINDOWED: tl.constexpr, WHOLE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    tile = tl.program_id(1)
    split = tl.program_id(2)
    kv_head = head // (HEADS // KV_HEADS)
    row = tl.load(tiles + tile * 4)
    count = tl.load(tiles + tile * 4 + 1)
    position = tl.load(tiles + tile * 4 + 2)
    table = tables + tl.load(tiles + tile * 4 + 3).to(tl.int64) * table_stride
    m = tl.arange(0, ROWS)
    d = tl.arange(0, D_PAD)
    n = tl.arange(0, TILE)
    real = (m < count)[:, None] & (d < D)[None, :]
    query = tl.load(queries + ((row + m)[:, None] * HEADS + head) * D + d[None, :], mask=real, other=0.0)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, D_PAD], tl.float32)
    first = tl.maximum(position + 1 - window, 0) // TILE * TILE
    each = tl.cdiv(tl.cdiv(position + count - first, TILE), splits) * TILE
    start = first + split * each
    end = tl.minimum(start + each, position + count)
    # Tiles that every row sees whole need no comparison; without a window these are all but the last ones.
    plain = start if WINDOWED else tl.maximum(start, tl.minimum(end, position + 1) // TILE * TILE)
    for MASKED in tl.static_range(2):
        for at in range(plain if MASKED else start, end if MASKED else plain, TILE):
            index = at + n
            if PAGE % TILE == 0:
                base = tl.load(table + at // PAGE).to(tl.int64) * PAGE + at % PAGE + n
            else:
                base = tl.load(table + index // PAGE, mask=index < end, other=0).to(tl.int64) * PAGE + index % PAGE
            base = (base * KV_HEADS + kv_head) * D
            if MASKED or D != D_PAD:
                loaded = (index < end)[:, None] & (d < D)[None, :]
                key = tl.load(keys + base[:, None] + d[None, :], mask=loaded, other=0.0)
                value = tl.load(values + base[:, None] + d[None, :], mask=loaded, other=0.0)
            else:
                key = tl.load(keys + base[:, None] + d[None, :])
                value = tl.load(values + base[:, None] + d[None, :])
            score = tl.dot(query, tl.trans(key), input_precision=PRECISION)
            if MASKED:
                distance = (position + m)[:, None] - index[None, :]
                score = tl.where((distance >= 0) & (distance < window) & (index < end)[None, :], score, float("-inf"))
            better = tl.maximum(tl.maximum(best, tl.max(score, 1) * scale), -1e30)
            weight = tl.exp2(score * scale - better[:, None])
            fade = tl.exp2(best - better)
            total = total * fade + tl.sum(weight, 1)
            mixed = tl.dot(weight.to(value.dtype), value, mixed * fade[:, None], input_precision=PRECISION)
            best = better
    result = mixed / tl.maximum(total, 1e-30)[:, None]
    if WHOLE:
        tl.store(output + ((row + m)[:, None] * HEADS + head) * D + d[None, :], result.to(output.dtype.element_ty), mask=real)
    else:
        place = ((row - first_row + m).to(tl.int64) * HEADS + head) * splits + split
        tl.store(logsums + place, tl.where(total > 0, best + tl.log2(total), float("-inf")), mask=m < count)
        if end > start:
            tl.store(partials + place[:, None] * D + d[None, :], result, mask=real)


def tile_rows(dtype: torch.dtype, size: int, longest: int) -> int:
    """Query rows of one program of `chunk_attention`: many where so many keys are read that reading them decides, and heads of
    `size` numbers leave room for them on a card with 100 KB of shared memory."""
    if dtype == torch.float32:
        return 32
    return 128 if longest >= 8192 and size <= 128 else 64


def count_chunk_splits(programs: int, length: int, at_once: int = CHUNK_PROGRAMS_AT_ONCE) -> int:
    """Into how many parts the keys of `programs` tiles and heads are cut: the fewest that leave little of the card idle.

    `length`: keys of the longest.
    """
    most = max(1, min(MOST_SPLITS, length // LEAST_CHUNK_KEYS, MOST_CHUNK_PROGRAMS // programs))
    time = {splits: -(-programs * splits // at_once) / splits for splits in range(1, most + 1)}
    return next(splits for splits in time if time[splits] <= 1.2 * min(time.values()))


def chunk_attention(
    queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, tiles: Tensor, output: Tensor, *,
    first_row: int, longest: int, page: int, scale: float, context: int, window: int | None = None, splits: int | None = None,
    full_tiles: int | None = None,
) -> None:  # fmt: skip
    """Fills rows from `first_row` of `output` [N, A, D] from the same rows of `queries`, both contiguous.

    tiles [T, 4] int32: first row, rows (at most `tile_rows`), position of the first, slot. Each row attends to the
    positions of its slot up to its own. longest: at least the last position of any row, plus one. full_tiles: how many
    of the tiles the keys are cut for, if others may have no rows.
    """
    rows, heads, size = queries.shape
    exact = queries.dtype == torch.float32
    count = tiles.shape[0]
    splits = splits or count_chunk_splits((full_tiles or count) * heads, min(longest, window or longest))
    parts = (rows - first_row, heads, splits if splits > 1 else 0)
    partials = torch.empty((*parts, size), dtype=torch.float32, device=queries.device)
    logsums = torch.empty(parts, dtype=torch.float32, device=queries.device)
    launch(
        _chunk_kernel, (heads, count, splits),
        queries, keys, values, tables, tiles, output, partials, logsums, scale * LOG2_E, tables.stride(0), window or context,
        splits, first_row, HEADS=heads, KV_HEADS=keys.shape[1], D=size, D_PAD=triton.next_power_of_2(max(16, size)), PAGE=page,
        ROWS=tile_rows(queries.dtype, size, longest), TILE=16 if exact else 64, WINDOWED=window is not None, WHOLE=splits == 1,
        PRECISION="ieee", num_warps=8 if exact else 4, num_stages=2 if exact else 3,
    )  # fmt: skip
    if splits > 1:
        combine(partials, logsums, output[first_row:])
