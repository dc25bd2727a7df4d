"""Runs steps on a card: launches one, and says later what it chose, so that the next can be launched meanwhile.

Why it exists: what to compute is the scheduler's decision and how a network computes is the family's; this is the seam
between them. A step is one CUDA graph (`card_graphs`) wherever one fits; large prompts alone are launched kernel by kernel.
The last chosen tokens stay on the card, where the next step reads them.

A row of a matrix product may be rounded otherwise in other company, and a sequence with a seed must be answered the same
in any. cuBLAS computes 1-8 rows of a 3584x3584 product otherwise than 9-16, and a row's place among them changes nothing
(H100, torch 2.11). So a step with such a sequence decodes as many rows as there are slots, and every prompt by itself.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.card_attention import CardAttention
from localmodel.engine.card_graphs import CardGraphs
from localmodel.engine.card_inputs import (
    CACHE_ROW,
    POSITION,
    TableKeeper,
    choosing_rows,
    decode_rows,
    prompt_rows,
    prompt_tiles,
    step_numbers,
)
from localmodel.engine.card_steps import fit_step, graph_sizes, largest_steps
from localmodel.engine.chunk_attention_kernel import tile_rows
from localmodel.engine.engine import Launched
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.runner import Network
from localmodel.engine.sampler import Sampled, Sampler
from localmodel.engine.sampling_plan import depends_on_answer
from localmodel.engine.sequence import Sequence, Work

Chosen = tuple[Tensor, Tensor | None]
"""Logits of works that sample, and where a graph has them already, their best tokens."""


class CardRunner:
    def __init__(self, network: Network, cache: KVCache, vocabulary: int) -> None:
        self._network = network
        self._cache = cache
        self._device = cache.keys.device
        self._sampler = Sampler(vocabulary, self._device)
        pages = -(-cache.context // cache.block_size)
        self._tables = torch.zeros((cache.slots, pages), dtype=torch.int32, device=self._device)
        self._keeper = TableKeeper(cache.slots, pages)
        self._chosen = torch.zeros(cache.slots, dtype=torch.int64, device=self._device)
        self._row_of: dict[Sequence, int] = {}
        self._sizes = graph_sizes(cache.slots)
        self._graphs = self._make_graphs(network, cache, vocabulary)
        with torch.inference_mode():
            self._graphs.decode(cache.slots)
            for shape in largest_steps(cache.slots, cache.context):
                self._graphs.mixed(shape)  # the others find their memory in these

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Computes the largest steps once more without their graphs, as one more graph's capture would."""
        self._graphs.warm_up()

    def close(self) -> None:
        """No step can be launched any more; what it took of the card goes with the last who knows it."""
        self._graphs.close()

    def _make_graphs(self, network: Network, cache: KVCache, vocabulary: int) -> CardGraphs:
        return CardGraphs(network, cache, self._tables, self._chosen, vocabulary)

    @torch.inference_mode()
    def launch(self, works: list[Work]) -> Launched:
        """Starts to compute all of `works`, decoding ones first."""
        places, blocks = self._keeper.changes(works)
        if places:
            self._tables.view(-1).index_copy_(0, self._send(np.array(places)), self._send(np.array(blocks, dtype=np.int32)))
        decoding = [work for work in works if work.decodes]
        prompts = works[len(decoding) :]
        if any(work.sequence.sampling.seed is not None for work in works):
            parts = [self._decode(decoding, self._cache.slots)] if decoding else []
            parts += [self._compute([work]) for work in prompts]
        elif prompts:
            parts = self._run_together(decoding, prompts)
        else:
            parts = [self._decode(decoding, count_rows(decoding))]
        if not any(work.samples for work in works):
            return Launched(list, may_be_followed=True)
        sequences = [work.sequence for work in works for _ in range(work.choices)]
        drafts = [work.draft[:ahead] for work in works for ahead in range(work.choices)] if any(w.draft for w in works) else None
        return self._choose([part for part in parts if part is not None], sequences, drafts)

    def _choose(self, parts: list[Chosen], sequences: list[Sequence], drafts: list[tuple[int, ...]] | None) -> Launched:
        plan = self._sampler.prepare(sequences, drafts)
        logits = parts[0][0] if len(parts) == 1 else torch.cat([logits for logits, _ in parts])
        best = parts[0][1] if len(parts) == 1 else None
        random = plan.plain or plan.filtered or plan.adjustment or plan.logprob_rows
        sampled = Sampled(best, plan, None) if best is not None and not random else self._sampler.sample(logits, plan)
        self._chosen[: len(sequences)].copy_(sampled.tokens)
        self._row_of = {sequence: row for row, sequence in enumerate(sequences)}
        if plan.logprob_rows:
            return Launched(sampled.report, may_be_followed=False)
        followed = drafts is None and not any(depends_on_answer(sequence) for sequence in sequences)
        return Launched(self._fetch(sampled.tokens), may_be_followed=followed)

    @staticmethod
    def _fetch(tokens: Tensor) -> Callable[[], list[int]]:
        """Starts to copy `tokens` to the host; the result waits for that and for no later step."""
        copy = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        copy.copy_(tokens, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> list[int]:
            done.synchronize()
            values: list[int] = copy.tolist()
            return values

        return wait

    def _decode(self, works: list[Work], least: int) -> Chosen | None:
        """From the graph of at least `least` rows."""
        rows = next(size for size in self._sizes if size >= least)
        graph = self._graphs.decode(rows)
        numbers = decode_rows(works, rows, self._row_of, self._cache.block_size)
        graph.numbers.copy_(self._pin(numbers.reshape(-1)), non_blocking=True)
        graph.graph.replay()
        wanted = choosing_rows(works)
        if len(wanted) == count_rows(works):
            return graph.logits[: len(wanted)], graph.best[: len(wanted)]
        return (graph.logits[self._send(np.array(wanted))], None) if wanted else None

    def _run_together(self, decoding: list[Work], prompts: list[Work]) -> list[Chosen | None]:
        """In the graph that holds all; else those that decode in theirs, and the prompts kernel by kernel."""
        cache = self._cache
        longest = max(work.start + work.count for work in prompts)
        rows = count_rows(decoding)
        shape = fit_step(rows, [work.count for work in prompts], longest, slots=cache.slots, context=cache.context)
        if shape is None:
            return [*([self._decode(decoding, rows)] if decoding else []), self._compute(prompts)]
        graph = self._graphs.mixed(shape)
        tile = tile_rows(cache.keys.dtype, cache.keys.shape[-1], shape.longest)
        numbers = step_numbers(decoding, prompts, shape, cache.slots, tile, self._row_of, cache.block_size)
        graph.numbers.copy_(self._pin(numbers), non_blocking=True)
        graph.graph.replay()
        count = sum(work.choices for work in [*decoding, *prompts])
        return [(graph.logits[:count], graph.best[:count])] if count else []

    def _compute(self, prompts: list[Work]) -> Chosen | None:
        """Computed together and without a graph."""
        cache = self._cache
        numbers = self._send(prompt_rows(prompts, cache.block_size))
        longest = max(work.start + work.count for work in prompts)
        tiles = self._send(prompt_tiles(prompts, 0, tile_rows(cache.keys.dtype, cache.keys.shape[-1], longest)))
        attend = CardAttention(self._tables, None, numbers[POSITION], tiles, cache.block_size, cache.context, longest)
        ends = np.cumsum([work.count for work in prompts]) - 1
        wanted = ends[[work.samples for work in prompts]]
        batch = Batch(self._graphs.resolve(numbers), numbers[POSITION], numbers[CACHE_ROW], attend)
        logits = self._network(batch, cache, self._send(wanted))
        return (logits, None) if len(wanted) else None

    def _send(self, array: np.ndarray) -> Tensor:
        return self._pin(array).to(self._device, non_blocking=True)

    @staticmethod
    def _pin(array: np.ndarray) -> Tensor:
        """In memory that the card reads by itself; torch keeps it until then."""
        return torch.from_numpy(array).pin_memory()


def count_rows(works: list[Work]) -> int:
    """At most as many as there are slots: who guesses sees to that."""
    return sum(work.count for work in works)
