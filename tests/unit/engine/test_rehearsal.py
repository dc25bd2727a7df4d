"""What is compiled while weights are read, against what a start and first requests launch: here neither is done."""

import gc
import itertools
import os
import re
import threading
import weakref
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # as test_card_kernels, which may run later in this process

from engine_runs import run_all
from localmodel import engine as package
from localmodel.api.channel import Sampling
from localmodel.engine import collectives, layers, linear, quantize, rehearsal, words
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_graphs import CardGraphs, Graph
from localmodel.engine.card_modes import ReadyRunner
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.engine import Engine
from localmodel.engine.families import choose_decoder
from localmodel.engine.kernels import launch, only_compiling
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.shards import divide
from localmodel.engine.sizing import launch_largest
from localmodel.engine.speculation import Speculation
from rehearsed import CONFIG, LIMITS, make_weight

LAUNCHERS = [
    file.stem
    for file in Path(package.__path__[0]).glob("*.py")
    if re.search(r"^from localmodel\.engine\.kernels import .*\blaunch\b", file.read_text(), re.MULTILINE)
]
GREEDY = Sampling(temperature=0, max_tokens=3, ignore_eos=True)


def signature(kernel, arguments, options):
    """What Triton compiles for: kinds of arguments, and whether pointers and numbers are multiples of 16 or a number is 1."""
    told = [_describe(argument) for argument in arguments]
    for number, name in enumerate(kernel.arg_names[: len(arguments)]):
        if name in (getattr(kernel, "do_not_specialize", None) or getattr(kernel, "kwargs", {}).get("do_not_specialize") or ()):
            told[number] = "int"
    return kernel.__name__, *told, *sorted(options.items())


def _describe(argument):
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    return (argument % 16 == 0, argument == 1) if isinstance(argument, int) else type(argument)


class HostGraphs(CardGraphs):
    def _capture(self, numbers, run):
        logits, best = run()
        return Graph(numbers, SimpleNamespace(replay=lambda: None), logits, torch.zeros_like(best), run)


class HostRunner(CardRunner):
    """Every step of it is computed once, where a card would capture it."""

    def _make_graphs(self, network, cache, vocabulary):
        return HostGraphs(network, cache, self._tables, self._chosen, vocabulary)

    def _choose(self, parts, sequences, drafts):
        return rehearsal.Launched(lambda: [0] * len(sequences), may_be_followed=False)


class Guessing(Speculation):
    """One sequence's answer with guesses of many lengths."""

    def __init__(self, most_rows):
        super().__init__(most_rows=most_rows)
        self.lengths = itertools.cycle([0, 1, 3, 7, 15, 16])

    def draft(self, sequences, rows, others=0):
        return [[0] * next(self.lengths) for _ in sequences]

    def pays(self, sequences, others=0):
        return bool(sequences)


class HostReadyRunner(ReadyRunner, HostRunner):
    pass


@pytest.fixture
def seen(monkeypatch):
    """Signatures of what is launched or compiled."""
    found = set()
    for name in LAUNCHERS:
        monkeypatch.setattr(
            f"localmodel.engine.{name}.launch",
            lambda kernel, grid, *arguments, **options: found.add(signature(kernel, arguments, options)),
        )
    for module in (layers, quantize):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    for module in (linear, words):
        monkeypatch.setattr(module, "make_weight", make_weight)
    monkeypatch.setattr(CardRunner, "_pin", staticmethod(torch.from_numpy))
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    return found


@pytest.mark.parametrize(
    ("architecture", "bits", "compile", "hopper", "ranks"),
    [
        *(("Qwen2ForCausalLM", bits, compile, True, 1) for bits in (16, 8, 4) for compile in ("Auto", "Max")),
        ("Qwen3ForCausalLM", 16, "Auto", True, 1),
        ("Gemma3ForCausalLM", 8, "Auto", False, 1),
        *(("Qwen2ForCausalLM", bits, "Auto", True, 2) for bits in (16, 8, 4)),
    ],
)
def test_all_that_a_start_and_a_first_request_launch_was_compiled_and_nothing_else(
    architecture, bits, compile, seen, hopper, ranks, monkeypatch
):
    """Of several ranks the first compiles, which has not met the others; here it is the last that launches."""
    monkeypatch.setattr("localmodel.engine.weight_hopper._card", lambda device: (hopper, 132))
    family, parse = choose_decoder(architecture)
    made = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    config, last = (replace(divide(parse(CONFIG), rank, ranks), weight_bits=bits) for rank in (0, ranks - 1))
    network = family(config, LIMITS["context"], *made.values())
    rehearsal.rehearse(network, config, every_graph=compile == "Max", **made, **LIMITS)
    compiled = seen.copy()
    seen.clear()
    config, network = last, family(last, LIMITS["context"], *made.values())
    silent = dict.fromkeys(("all_reduce", "broadcast", "all_gather_into_tensor"), lambda *tensors: None)
    monkeypatch.setattr(collectives, "dist", SimpleNamespace(get_world_size=lambda: ranks, **silent))

    def cache(blocks):
        return KVCache.allocate(config, blocks, GPU_BLOCK, LIMITS["slots"], LIMITS["context"], *made.values())

    blocks = -(-LIMITS["context"] // GPU_BLOCK)
    with torch.inference_mode():
        launch_largest(HostRunner(network, cache(blocks), config.vocabulary), **LIMITS)
        runner = (HostReadyRunner if compile == "Max" else HostRunner)(network, cache(2 * blocks), config.vocabulary)
    scheduler = Scheduler(LIMITS["slots"], 256, BlockPool(2 * blocks, GPU_BLOCK), burst=2048)
    engine = Engine(runner.launch, scheduler, slots=20, context=2600, vocabulary=config.vocabulary, stop_tokens=frozenset())
    for length in (1, 100, 300, 600, 1100, 2100, 2590):
        run_all(engine, {length: ([length % 300] * length, GREEDY)})
    engine._scheduler.speculation = Guessing(LIMITS["slots"])
    run_all(engine, {"guesses": ([1], GREEDY.model_copy(update={"max_tokens": 200}))})
    assert len(compiled) > 8
    names = {name for name, *_ in compiled}
    assert names >= {"product_kernel", "sum_tiles_kernel"} if bits < 16 and hopper else "product_kernel" not in names
    assert seen - compiled == set(), "compiled too late"
    assert compiled - seen == set(), "compiled for nothing"
    assert names & set(rehearsal.LONG) == set(rehearsal.LONG[0 if bits < 16 and hopper else 1 :])


def test_of_kernels_that_wait_those_that_take_long_are_compiled_first():
    began, may_go, order = threading.Event(), threading.Event(), []

    class Kernel:
        run = None

        def __init__(self, name):
            self.__name__ = name

        def warmup(self, x, *, grid):
            futures.append(pool.submit(self.compile))

        def compile(self):
            order.append(self.__name__)
            began.set()
            assert may_go.wait(30)
            if self.__name__ == "broken":
                raise ValueError("no such register")
            return self

    futures = []
    with rehearsal.Loading(1) as pool, only_compiling():
        launch(Kernel("first"), (1,), torch.empty(0))
        assert began.wait(30)
        for name in ("_sum_kernel", "_chunk_kernel", "broken", "product_kernel"):
            launch(Kernel(name), (1,), torch.empty(0))
        may_go.set()
        wait(futures, 30)
    assert order == ["first", "_chunk_kernel", "product_kernel", "_sum_kernel", "broken"]
    assert futures[2].result().__name__ == "_chunk_kernel"
    assert isinstance(futures[3].exception(), ValueError)


@pytest.mark.parametrize("compile", ["Auto", "Max"])
def test_what_it_took_of_the_card_is_given_back_at_once(compile, seen, monkeypatch):
    family, parse = choose_decoder("Qwen2ForCausalLM")
    config = divide(parse(CONFIG), 0, 1)
    made = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    network = family(config, LIMITS["context"], *made.values())
    caches = []
    allocate = KVCache.allocate

    def note(*arguments):
        cache = allocate(*arguments)
        caches.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(KVCache, "allocate", note)
    gc.disable()
    try:
        rehearsal.rehearse(network, config, every_graph=compile == "Max", **made, **LIMITS)
        assert [cache() for cache in caches] == [None]
    finally:
        gc.enable()
