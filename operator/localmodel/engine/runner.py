"""Runs one step on the device: builds the batch, calls the network, samples. The only holder of weights and cache.

Why it exists: what to compute is the scheduler's decision and how a network computes is the family's; this is the seam
between them, where CUDA graphs go later. It keeps no state about sequences.

A row of a matrix product may be rounded otherwise when it is computed alone, and a sequence with a seed must be answered
the same in any company. Measured with torch 2.15 on an EPYC with avx512_bf16: rows are bit-equal for any count >= 2 in
bfloat16, and for counts that are multiples of 4 in float32. So a step with such a sequence is padded to that
(ROW_MULTIPLE); others are not, because one row alone takes half the time of two. On a card (H100, torch 2.11) no multiple
helps: cuBLAS computes 1-8 rows of a 3584x3584 product otherwise than 9-16, and a row's place among them changes nothing.
So there a step with such a sequence decodes as many rows as there are slots, and computes every prompt by itself.
"""

from typing import Protocol

import torch
from torch import Tensor

from localmodel.engine.kv_cache import KVCache
from localmodel.engine.layers import Batch, Places, Segment
from localmodel.engine.sampler import Sampler
from localmodel.engine.scheduler import Work

ROW_MULTIPLE = {torch.bfloat16: 2, torch.float32: 4}


class Network(Protocol):
    def tensors(self) -> Places: ...

    def __call__(self, batch: Batch, cache: KVCache, rows: Tensor) -> Tensor: ...


class Runner:
    def __init__(self, network: Network, cache: KVCache, vocabulary: int) -> None:
        self._network = network
        self._cache = cache
        self._device = cache.keys.device
        self._sampler = Sampler(vocabulary, self._device)

    @torch.inference_mode()
    def run(self, works: list[Work]) -> list[int]:
        """Computes all of `works`; returns the token of each that samples, in order."""
        return [token for group, multiple in self._groups(works) for token in self._run_group(group, multiple)]

    def _groups(self, works: list[Work]) -> list[tuple[list[Work], int]]:
        """The works to compute together, in order, and what to pad their rows to a multiple of."""
        if all(work.sequence.sampling.seed is None for work in works):
            return [(works, 1)]
        if self._device.type == "cpu":
            return [(works, ROW_MULTIPLE[self._cache.keys.dtype])]
        decode = [work for work in works if work.sequence.answer]
        prompts = [([work], 1) for work in works if not work.sequence.answer]
        return [(decode, self._cache.slots), *prompts] if decode else prompts

    def _run_group(self, works: list[Work], multiple: int) -> list[int]:
        batch = self._build(works, multiple)
        rows, sequences, row = [], [], 0
        for work in works:
            row += work.count
            if work.samples:
                rows.append(row - 1)
                sequences.append(work.sequence)
        padded = rows + rows[-1:] * (-len(rows) % multiple)
        logits = self._network(batch, self._cache, torch.tensor(padded, dtype=torch.int64, device=self._device))
        plan = self._sampler.prepare(sequences)
        return self._sampler.sample(logits[: len(rows)], plan).report()

    def _build(self, works: list[Work], multiple: int) -> Batch:
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
        padding = [0] * (-len(tokens) % multiple)
        return Batch(self._indices(tokens + padding), self._indices(positions + padding), self._indices(cache_rows), segments)

    def _indices(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
