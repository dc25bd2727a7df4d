"""Runs one step on the device: builds the batch, calls the network, samples. The only holder of weights and cache.

Why it exists: what to compute is the scheduler's decision and how a network computes is the family's; this is the seam
between them, where CUDA graphs go later. It keeps no state about sequences.

A row of a matrix product must not depend on how many rows there are, or a sequence would be answered differently in
company. Measured with torch 2.15 on an EPYC with avx512_bf16: rows are bit-equal for any count >= 2 in bfloat16, and for
counts that are multiples of 4 in float32; so the batch is padded to that (ROW_MULTIPLE).
"""

from typing import Protocol

import torch
from torch import Tensor

from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Batch, Places, Segment
from localmodel.engine.sampler import choose_tokens
from localmodel.engine.scheduler import Work

ROW_MULTIPLE = {torch.bfloat16: 2, torch.float32: 4}


class Network(Protocol):
    def tensors(self) -> Places: ...

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor) -> Tensor: ...


class Runner:
    def __init__(self, network: Network, cache: KVCache) -> None:
        self._network = network
        self._cache = cache
        self._multiple = ROW_MULTIPLE[cache.keys.dtype]
        self._device = cache.keys.device

    @torch.inference_mode()
    def run(self, works: list[Work]) -> list[int]:
        """Computes all of `works`; returns the token of each that samples, in order."""
        batch = self._build(works)
        rows, sequences, row = [], [], 0
        for work in works:
            row += work.count
            if work.samples:
                rows.append(row - 1)
                sequences.append(work.sequence)
        padded = rows + rows[-1:] * (-len(rows) % self._multiple)
        logits = self._network(batch, self._cache, torch.tensor(padded, dtype=torch.int64, device=self._device))
        return choose_tokens(logits[: len(rows)], sequences)

    def _build(self, works: list[Work]) -> Batch:
        tokens: list[int] = []
        positions: list[int] = []
        cache_rows: list[int] = []
        segments = []
        for work in works:
            base = work.slot * self._cache.context
            segments.append(Segment(row=len(tokens), count=work.count, base=base, start=work.start))
            tokens += work.sequence.tokens(work.start, work.count)
            positions += range(work.start, work.start + work.count)
            cache_rows += range(base + work.start, base + work.start + work.count)
        padding = [0] * (-len(tokens) % self._multiple)
        return Batch(self._indices(tokens + padding), self._indices(positions + padding), self._indices(cache_rows), segments)

    def _indices(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
