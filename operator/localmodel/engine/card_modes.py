"""What `compile` means on a card: graphs captured as their sizes are met, all of them before the first request, or none.

Why it exists: capturing a graph takes a tenth of a second in the midst of an answer, once for each size of a step. Who can't
have that waits longer for a model to be ready; who looks for a fault in a kernel wants no graphs at all. What is computed is
the same in each mode. It decides no sizes (`card_steps`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from localmodel.api.engine import Compile
from localmodel.engine.card_graphs import CardGraphs, Graph
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.card_steps import graph_sizes
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.runner import Network
from localmodel.engine.step_list import list_steps


class _Rerun:
    """Stands for a graph: computes anew, kernel by kernel, so that a fault is where it happens."""

    def __init__(self, run: Callable[[], tuple[Tensor, Tensor]], logits: Tensor, best: Tensor) -> None:
        self._run = run
        self._places = logits, best

    def replay(self) -> None:
        for place, made in zip(self._places, self._run(), strict=True):
            place.copy_(made)


class EagerGraphs(CardGraphs):
    """Looks like graphs to the runner and holds none."""

    def __init__(self, network: Network, cache: KVCache, tables: Tensor, chosen: Tensor, vocabulary: int) -> None:
        super().__init__(network, cache, tables, chosen, vocabulary)
        self._best = torch.zeros(cache.slots, dtype=torch.int64, device=cache.keys.device)

    def _capture(self, numbers: Tensor, run: Callable[[], tuple[Tensor, Tensor]]) -> Graph:
        rows = len(run()[1])
        logits, best = self._logits[:rows], self._best[:rows]
        return Graph(numbers, _Rerun(run, logits, best), logits, best, run)


class EagerRunner(CardRunner):
    def _make_graphs(self, network: Network, cache: KVCache, vocabulary: int) -> CardGraphs:
        return EagerGraphs(network, cache, self._tables, self._chosen, vocabulary)


class ReadyRunner(CardRunner):
    """Has every graph that a step may need when it is made."""

    def __init__(self, network: Network, cache: KVCache, vocabulary: int) -> None:
        super().__init__(network, cache, vocabulary)
        with torch.inference_mode():
            for shape in list_steps(cache.slots, cache.context):
                self._graphs.mixed(shape)
            for rows in reversed(graph_sizes(cache.slots)):
                self._graphs.decode(rows)


RUNNERS: dict[Compile, type[CardRunner]] = {"None": EagerRunner, "Auto": CardRunner, "Max": ReadyRunner}
