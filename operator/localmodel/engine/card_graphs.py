"""CUDA graphs of whole steps: captured when their size is first met, replayed with new numbers.

Why it exists: a step of a network of 28 layers is 300 kernels, which take the host longer to launch than a card to compute. A
graph is one launch. Everything that changes between replays comes from `numbers`, the block tables and the tokens chosen
last, all on the card.
"""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from localmodel.engine.attention import Batch
from localmodel.engine.card_attention import CardAttention
from localmodel.engine.card_inputs import CACHE_ROW, KINDS, NOWHERE, POSITION, SLOT, SOURCE, TILE_NUMBERS, TOKEN, step_sizes
from localmodel.engine.card_steps import StepShape
from localmodel.engine.chunk_attention_kernel import tile_rows
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.runner import Network


class Graph(NamedTuple):
    numbers: Tensor
    """[.] int64: what the host writes before each replay (`decode_rows`, `step_numbers`)."""
    graph: torch.cuda.CUDAGraph
    logits: Tensor
    """[rows, V]; valid until another graph is replayed."""
    best: Tensor
    """[rows] int64, the best token of each."""
    run: Callable[[], tuple[Tensor, Tensor]]
    """Computes the same without the graph."""


class CardGraphs:
    def __init__(self, network: Network, cache: KVCache, tables: Tensor, chosen: Tensor, vocabulary: int) -> None:
        """tables [slots, pages] int32; chosen [slots] int64: tokens of the step before."""
        self._network = network
        self._cache = cache
        self._tables = tables
        self._chosen = chosen
        self._decoding: dict[int, Graph] = {}
        self._mixed: dict[StepShape, Graph] = {}
        self._logits = torch.empty((cache.slots, vocabulary), dtype=cache.keys.dtype, device=cache.keys.device)
        """Of graphs with prompts: they share one place, there are many sizes."""
        self._pool: tuple[int, int] | None = None

    def decode(self, rows: int) -> Graph:
        """A step that only decodes; logits of every row."""
        if rows not in self._decoding:
            numbers = self._room(KINDS * rows)
            table = numbers.view(KINDS, rows)
            table[SOURCE] = table[CACHE_ROW] = NOWHERE
            self._decoding[rows] = self._capture(numbers, lambda: self._run_decode(table))
        return self._decoding[rows]

    def mixed(self, shape: StepShape) -> Graph:
        """A step with prompts; logits of the rows that are named in the numbers."""
        if shape not in self._mixed:
            rows, tiles, choices = step_sizes(shape, self._cache.slots, self._tile(shape))
            numbers = self._room(KINDS * rows + TILE_NUMBERS * tiles + choices)
            table = numbers[: KINDS * rows].view(KINDS, rows)
            table[SOURCE] = table[CACHE_ROW] = NOWHERE
            rest = numbers[KINDS * rows :].split([TILE_NUMBERS * tiles, choices])
            self._mixed[shape] = self._capture(numbers, lambda: self._run_mixed(shape, table, rest[0], rest[1]))
        return self._mixed[shape]

    def warm_up(self) -> None:
        """What the capture of one more graph would take beside all that there are."""
        for graph in (*self._decoding.values(), *self._mixed.values()):
            graph.run()

    def close(self) -> None:
        """Gives back what graphs hold: they and this object name each other, so that it would be kept until Python looks for
        such circles, which may be after the next one has taken all that was left of the card."""
        self._decoding.clear()
        self._mixed.clear()

    def resolve(self, numbers: Tensor) -> Tensor:
        """Token ids [rows] of numbers [KINDS, rows], those that the step before chose included."""
        source = numbers[SOURCE]
        return torch.where(source >= 0, self._chosen[source.clamp(min=0)], numbers[TOKEN])

    def _tile(self, shape: StepShape) -> int:
        return tile_rows(self._cache.keys.dtype, self._cache.keys.shape[-1], shape.longest)

    def _room(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.int64, device=self._chosen.device)

    def _run_decode(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        cache = self._cache
        attend = CardAttention(self._tables, numbers[SLOT], numbers[POSITION], None, cache.block_size, cache.context)
        batch = Batch(self.resolve(numbers), numbers[POSITION], numbers[CACHE_ROW], attend)
        logits = self._network(batch, cache, None)
        return logits, logits.argmax(dim=-1)

    def _run_mixed(self, shape: StepShape, numbers: Tensor, tiles: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        cache = self._cache
        attend = CardAttention(
            self._tables, numbers[SLOT, : shape.decoding], numbers[POSITION], tiles.view(-1, TILE_NUMBERS).to(torch.int32),
            cache.block_size, cache.context, shape.longest, -(-shape.prompts // self._tile(shape)),
        )  # fmt: skip
        batch = Batch(self.resolve(numbers), numbers[POSITION], numbers[CACHE_ROW], attend)
        logits = self._network(batch, cache, wanted)
        return self._logits[: len(wanted)].copy_(logits), logits.argmax(dim=-1)

    def _capture(self, numbers: Tensor, run: Callable[[], tuple[Tensor, Tensor]]) -> Graph:
        """All share one pool of memory: no two run together."""
        run()  # compiles kernels, which a capture may not
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                logits, best = run()
        except BaseException:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph))  # its end would end the process, and nobody be told why
            raise
        self._pool = graph.pool()
        return Graph(numbers, graph, lend(logits), lend(best), run)


class _Address:
    """As `torch.as_tensor` reads it."""

    def __init__(self, tensor: Tensor) -> None:
        self.__cuda_array_interface__ = {
            "shape": (tensor.nbytes,), "typestr": "|u1", "data": (tensor.data_ptr(), False), "version": 3
        }  # fmt: skip


def lend(tensor: Tensor) -> Tensor:
    """The same on a card without a share in its memory, which the pool gives to the next graph: a graph's logits are only valid
    until another is replayed, and those of all graphs together would take as much as some sequences' cache."""
    view = torch.as_tensor(_Address(tensor), device=tensor.device)
    return view.view(tensor.dtype).view(tensor.shape)
