"""Runs one step on a CPU: builds the batch, calls the network, samples. It keeps no state about sequences.

Why it exists: what to compute is the scheduler's decision and how a network computes is the family's; this is the seam
between them. A card has its own (`card_runner`).

A row of a matrix product may be rounded otherwise when it is computed alone, and a sequence with a seed must be answered
the same in any company. Measured with torch 2.15 on an EPYC with avx512_bf16: rows are bit-equal for any count >= 2 in
bfloat16, and for counts that are multiples of 4 in float32. So a step with such a sequence is padded to that
(ROW_MULTIPLE); others are not, because one row alone takes half the time of two.
"""

from typing import Protocol

import torch
from torch import Tensor

from localmodel.engine.attention import Batch, Segment, SegmentedAttention, locate
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Places
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence, Work

ROW_MULTIPLE = {torch.bfloat16: 2, torch.float32: 4}


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
        seeded = any(work.sequence.sampling.seed is not None for work in works)
        multiple = ROW_MULTIPLE[self._cache.keys.dtype] if seeded else 1
        rows: list[int] = []
        sequences: list[Sequence] = []
        assumed: list[tuple[int, ...]] = []
        row = 0
        for work in works:
            row += work.count
            rows += range(row - work.choices, row)
            sequences += [work.sequence] * work.choices
            assumed += [work.draft[:ahead] for ahead in range(work.choices)]
        if not rows:
            self._network(self._build(works, multiple), self._cache, torch.zeros(0, dtype=torch.int64))
            return []
        padded = rows + rows[-1:] * (-len(rows) % multiple)
        wanted = None if not seeded and len(rows) == row else torch.tensor(padded)
        logits = self._network(self._build(works, multiple), self._cache, wanted)
        return self._sampler.sample(logits[: len(rows)], self._sampler.prepare(sequences, assumed)).report()

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
        padding = [0] * (-len(tokens) % multiple)
        return Batch(
            torch.tensor(tokens + padding), torch.tensor(positions + padding), torch.cat(cache_rows), SegmentedAttention(segments)
        )
