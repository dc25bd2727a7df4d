"""Attention of one step over the paged cache: on a CPU single rows, then long prompts one by one; on a card by kernels.

Why it exists: a layer asks for its queries to be mixed and need not know where a sequence's keys lie or what device
computes. It must not know about scheduling: the runner says which rows belong to which part of the cache.

Shapes: N tokens of one step, flat over all sequences; A heads, K kv_heads, D head_dim.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from localmodel.engine import cpu_kernels

SHORT = 1024
"""Positions of a prompt up to which `cpu_kernels` attends row by row faster than torch all rows together: in half the time where
a prompt begins, in 0.7 to 1.0 of it behind 448 tokens (EPYC, 9 and 28 heads, both types)."""


class Attend(Protocol):
    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        """queries [N, A, D], turned; keys, values [cache tokens, K, D], this step's included -> [N, A, D].

        `window`: each row sees so many positions, its own included; None: all before it.
        """


@dataclass(frozen=True)
class Batch:
    """What one step computes. Rows after the last sequence's are padding."""

    tokens: Tensor
    """[N] int64"""
    positions: Tensor
    """[N] int64, each within its sequence."""
    cache_rows: Tensor
    """[M] int64, M <= N: where in the cache's token axis row i goes. On a card M = N and padding goes to -1."""
    attend: Attend


@dataclass(frozen=True)
class Segment:
    """`count` neighbouring rows from `row` belong to one sequence, at positions from `start`."""

    row: int
    count: int
    start: int
    past: slice | Tensor
    """Of the cache's token axis: positions 0 ... start + count - 1, a view where they are neighbours."""
    apart: bool = False
    """Each row by itself, rounded as if it had come alone."""

    @property
    def by_row(self) -> bool:
        return self.count == 1 or self.apart

    @property
    def short(self) -> bool:
        return self.by_row or self.start + self.count <= SHORT


def locate(blocks: list[int], size: int, length: int) -> slice | Tensor:
    """Rows of the token axis that hold positions 0 ... length - 1."""
    used = blocks[: -(-length // size)]
    if used[-1] - used[0] == len(used) - 1 and used == list(range(used[0], used[-1] + 1)):
        return slice(used[0] * size, used[0] * size + length)
    return (torch.tensor(used).unsqueeze(1) * size + torch.arange(size)).flatten()[:length]


class SegmentedAttention:
    """Attention of a step's segments. Rows that decode and short prompts are one call of `cpu_kernels` where that was built."""

    def __init__(self, segments: list[Segment]) -> None:
        self._prompts = [segment for segment in segments if not segment.short]
        self._rows = SingleRows([segment for segment in segments if segment.short])
        self._segments = segments
        self._count = sum(segment.count for segment in segments)

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        if not cpu_kernels.serves(queries) or queries.shape[2] > cpu_kernels.MOST_HEAD_SIZE:
            return self._attend_by_torch(queries, keys, values, scale, window)
        mixed = torch.empty_like(queries)
        mixed[self._count :] = 0
        self._rows.attend(queries, keys, values, mixed, scale, window)
        for segment in self._prompts:
            here = slice(segment.row, segment.row + segment.count)
            past_keys, past_values = keys[segment.past], values[segment.past]
            mixed[here] = attend_one(queries[here], past_keys, past_values, segment.start, scale, window)
        return mixed

    def _attend_by_torch(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        """What lies in neighbouring blocks is not copied."""
        heads, size = queries.shape[1:]
        kv_heads = keys.shape[1]
        rows = queries.view(-1, 1, kv_heads, heads // kv_heads, size).unbind(0)
        mixed = []
        for segment in self._segments:
            past_keys, past_values = keys[segment.past], values[segment.past]
            if segment.by_row:
                for at in range(segment.count):
                    end = segment.start + at + 1
                    first = max(0, end - window) if window else 0
                    mixed.append(attend_row(rows[segment.row + at], past_keys, past_values, first, end, scale))
            else:
                here = queries[segment.row : segment.row + segment.count]
                mixed.append(attend_one(here, past_keys, past_values, segment.start, scale, window).view(-1, *rows[0].shape[1:]))
        padding = len(queries) - self._count
        if padding:
            mixed.append(queries.new_zeros(padding, *rows[0].shape[1:]))
        return torch.cat(mixed).view(-1, heads, size)


class SingleRows:
    """Rows that are attended one by one, as `cpu_kernels` wants them; the same for all layers."""

    def __init__(self, segments: list[Segment]) -> None:
        table, places, begin = [], [], 0
        for segment in segments:
            table += [(segment.row + at, segment.start + at + 1, begin) for at in range(segment.count)]
            past = segment.past
            here = np.arange(past.start, past.stop, dtype=np.int32) if isinstance(past, slice) else past.numpy().astype(np.int32)
            places.append(here)
            begin += len(here)
        self._table = np.array(table, dtype=np.int32)
        self._places = np.concatenate(places) if places else self._table

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mixed: Tensor, scale: float, window: int | None) -> None:
        if len(self._table):
            cpu_kernels.attend_rows(queries, keys, values, mixed, self._table, self._places, scale, window)


def attend_row(query: Tensor, keys: Tensor, values: Tensor, first: int, end: int, scale: float) -> Tensor:
    """query [1, K, A / K, D] over positions first ... end - 1 of keys, values [., K, D] -> the same shape.

    The query heads of one key head are its rows: no kernel needs to know of groups, and nothing is copied.
    """
    step, head, number = keys.stride()
    shape = (1, keys.shape[1], end - first, keys.shape[2])
    strides = (0, head, step, number)
    keys = keys.as_strided(shape, strides, keys.storage_offset() + first * step)
    values = values.as_strided(shape, strides, values.storage_offset() + first * step)
    return F.scaled_dot_product_attention(query, keys, values, scale=scale)


def attend_one(queries: Tensor, keys: Tensor, values: Tensor, start: int, scale: float, window: int | None) -> Tensor:
    """queries [T, A, D] at positions from `start`; keys, values [start + T, K, D] -> [T, A, D].

    The query heads of one key head are its rows (one token) or a batch dimension over which it is expanded (many):
    no kernel needs to know of groups, and nothing is copied.
    """
    count, heads, size = queries.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    if count == 1:
        first = max(0, start + 1 - window) if window else 0
        keys, values = keys[first:].transpose(0, 1), values[first:].transpose(0, 1)
        grouped = queries.view(1, kv_heads, group, size)
        mixed = F.scaled_dot_product_attention(grouped, keys.unsqueeze(0), values.unsqueeze(0), scale=scale)
        return mixed.reshape(1, heads, size)
    grouped = queries.view(count, kv_heads, group, size).permute(1, 2, 0, 3)
    keys, values = (x.transpose(0, 1).unsqueeze(1).expand(-1, group, -1, -1) for x in (keys, values))
    if start == 0 and (window is None or count <= window):
        mixed = F.scaled_dot_product_attention(grouped, keys, values, is_causal=True, scale=scale)
    else:
        mask = torch.ones(count, start + count, dtype=torch.bool, device=queries.device).tril(start)
        if window:
            mask = mask.triu(start + 1 - window)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scale)
    return mixed.permute(2, 0, 1, 3).reshape(count, heads, size)
