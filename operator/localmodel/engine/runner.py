"""Runs one step on a CPU: builds the batch, calls the network, samples. It keeps no state about sequences.

Why it exists: what to compute is the scheduler's decision and how a network computes is the family's; this is the seam
between them. A card has its own (`card_runner`).

A row of a matrix product may be rounded otherwise when it is computed alone, and a sequence with a seed must be answered
the same in any company. Measured with torch 2.15 on an EPYC and a Xeon with avx512_bf16, in SmolLM2's matrices: rows are
bit-equal for any count from 2 to 96 in bfloat16, and for 4, 8 and 12 in float32, but not for those and 16 and more (Xeon). So a
step with such a sequence is padded to multiples (ROW_MULTIPLE), and in float32, or with more rows, cut: sequences that decode
share products of at most 12 or 96 rows, and each prompt has its own. Other steps are not, but for what `row_counts` wants of
large ones: one row alone takes half the time of two. That was torch's own product; packed weights (`packed_weight`), on the
EPYC, gave equal rows for any count from 1 to 96, but for one row alone in float32, and those of `cpu_products` do for any count.
The rules stay for processors where weights are not packed.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from localmodel.engine.attention import Batch, Segment, SegmentedAttention, locate
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.linear import Places
from localmodel.engine.row_counts import round_up
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence, Work

ROW_MULTIPLE = {torch.bfloat16: 2, torch.float32: 4}
MOST_EQUAL_ROWS = {torch.bfloat16: 96, torch.float32: 12}


class Network(Protocol):
    def tensors(self) -> Places: ...

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor | None) -> Tensor: ...


class Runner:
    def __init__(self, network: Network, cache: KVCache, vocabulary: int) -> None:
        self._network = network
        self._cache = cache
        self._sampler = Sampler(vocabulary, cache.keys.device)

    @torch.inference_mode()
    def run(self, works: list[Work]) -> list[int]:
        """Computes all of `works`; returns the tokens that each chooses, in order."""
        dtype = self._cache.keys.dtype
        if all(work.sequence.sampling.seed is None for work in works):
            parts = [self._compute(works, 1)]
        else:
            most = MOST_EQUAL_ROWS[dtype]
            equal = dtype == torch.bfloat16 and sum(work.count for work in works) <= most
            pieces = [works] if equal else cut_works(works, most)
            parts = [self._compute(piece, ROW_MULTIPLE[dtype]) for piece in pieces]
        sequences: list[Sequence] = []
        assumed: list[tuple[int, ...]] = []
        for work in works:
            sequences += [work.sequence] * work.choices
            assumed += [work.draft[:ahead] for ahead in range(work.choices)]
        if not sequences:
            return []
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._sampler.sample(logits, self._sampler.prepare(sequences, assumed)).report()

    def _compute(self, works: list[Work], multiple: int) -> Tensor:
        """Logits of the tokens that `works` choose, [choices, V], computed in counts of rows that `round_up` allows."""
        rows: list[int] = []
        row = 0
        for work in works:
            row += work.count
            rows += range(row - work.choices, row)
        padded = rows + rows[-1:] * (round_up(len(rows), multiple) - len(rows))
        wanted = None if len(rows) == row else torch.tensor(padded, dtype=torch.int64)
        logits = self._network(self._build(works, multiple), self._cache, wanted)
        return logits[: len(rows)]

    def _build(self, works: list[Work], multiple: int) -> Batch:
        tokens: list[int] = []
        positions: list[int] = []
        cache_rows: list[Tensor] = []
        segments = []
        for work in works:
            end = work.start + work.count
            past = locate(work.blocks, self._cache.block_size, end)
            segments.append(Segment(len(tokens), work.count, work.start, past, apart=bool(work.draft)))
            tokens += [*work.sequence.tokens(work.start, work.count - len(work.draft)), *work.draft]
            positions += range(work.start, end)
            here = torch.arange(past.start + work.start, past.stop) if isinstance(past, slice) else past[work.start :]
            cache_rows.append(here)
        padding = [0] * (round_up(len(tokens), multiple) - len(tokens))
        return Batch(
            torch.tensor(tokens + padding), torch.tensor(positions + padding), torch.cat(cache_rows), SegmentedAttention(segments)
        )


def cut_works(works: list[Work], most_rows: int) -> Iterator[list[Work]]:
    """Neighbours that decode, together up to `most_rows` rows; each prompt, and whatever is longer, by itself."""
    piece: list[Work] = []
    for work in works:
        if piece and (not work.decodes or sum(each.count for each in piece) + work.count > most_rows):
            yield piece
            piece = []
        piece.append(work)
        if not work.decodes:
            yield piece
            piece = []
    if piece:
        yield piece
