"""Attention of one step on a card: decoding rows first, then chunks of prompts, all through block tables.

Why it exists: it is what `attention.SegmentedAttention` is on a CPU. Everything it reads lies on the card, so a CUDA graph
may hold it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localmodel.engine.chunk_attention_kernel import chunk_attention
from localmodel.engine.paged_attention_kernel import decode_attention


@dataclass(frozen=True)
class CardAttention:
    tables: Tensor
    """[slots, pages] int32"""
    slots: Tensor | None
    """[R] int64 of the first R rows, which decode; None: none does."""
    positions: Tensor
    """[N] int64"""
    tiles: Tensor | None
    """[T, 4] int32 of the other rows, as `chunk_attention` wants them."""
    page: int
    context: int
    longest: int = 0
    """Positions that the last of the rows in `tiles` may see."""
    full_tiles: int | None = None
    """As many as are expected to have rows; None: all."""

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
        output = torch.empty_like(queries)
        decoding = 0
        if self.slots is not None:
            decoding = self.slots.shape[0]
            decode_attention(
                queries[:decoding], keys, values, self.tables, self.slots, self.positions, output[:decoding],
                page=self.page, scale=scale, context=self.context, window=window,
            )  # fmt: skip
        if self.tiles is not None:
            chunk_attention(
                queries, keys, values, self.tables, self.tiles, output,
                first_row=decoding, longest=self.longest, page=self.page, scale=scale, context=self.context, window=window,
                full_tiles=self.full_tiles,
            )  # fmt: skip
        return output
