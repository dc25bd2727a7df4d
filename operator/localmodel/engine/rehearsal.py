"""Compiles the kernels that a start and a first answer need, several at once, while the weights are read.

Why it exists: a pod's first start finds no compiled kernel, and compiling them one by one as they are met took longer than
reading the weights. It runs the largest steps and those of a first request on the network as it is, weights or not, with one
layer of each kind, and launches none of our kernels; what torch computes meanwhile means nothing. What it fails to compile
is compiled when it is met, as ever. It must be over before a graph is captured: no other thread may ask the card then.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from queue import PriorityQueue
from typing import Any

import torch

from localmodel.engine.card_modes import EagerRunner
from localmodel.engine.card_runner import Chosen
from localmodel.engine.card_steps import decoding_rows, graph_sizes
from localmodel.engine.engine import Launched
from localmodel.engine.families import Decoder
from localmodel.engine.kernel_compilers import Compilers
from localmodel.engine.kernels import compiling, only_compiling
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.sequence import Sequence
from localmodel.engine.sizing import launch_largest
from localmodel.engine.speculation import MOST_ROWS
from localmodel.engine.step_list import list_steps
from triton import AsyncCompileMode

SWITCH_SECONDS = 0.0005
"""After so long the thread that reads weights is given the interpreter, of which it needs little at a time."""

LONG = ("product_kernel", "_chunk_kernel")
"""Kernels that take 1.0 to 3.3 s of a core each to compile; the others take 0.1 to 0.7 (for a Hopper card, on an EPYC)."""


@contextmanager
def rehearsing(
    network: Decoder, config: NetworkConfig, *, threads: int, every_graph: bool, dtype: torch.dtype, device: torch.device,
    **limits: int,
) -> Iterator[None]:  # fmt: skip
    """Meanwhile, kernels are compiled; when it is left, they are. `every_graph`: not only those of a first request.

    `limits`: of `launch_largest`.
    """

    def compile_all() -> None:
        with torch.cuda.device(device), Loading(threads) as pool, AsyncCompileMode(pool, ignore_errors=True):
            rehearse(network, config, every_graph=every_graph, dtype=dtype, device=device, **limits)

    thread = threading.Thread(target=_quietly, args=(compile_all,), name="rehearsal")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        sys.setswitchinterval(interval)
        torch.cuda.empty_cache()


class Loading(Executor):
    """Compiles, by processes where all is new, and brings what was compiled onto the card. Of what waits for a thread, those that
    take long come first: one of them begun last is a thread's work while all others have none."""

    def __init__(self, threads: int) -> None:
        self._compilers = Compilers(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kernels")
        self._waiting: PriorityQueue[tuple[bool, int, Future[Any], Callable[[], Any]]] = PriorityQueue()
        self._count = itertools.count()

    def submit(self, compile: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        def compile_and_load() -> Any:
            self._compilers.compile(compile)
            kernel = compile(*args, **kwargs)
            kernel.run  # noqa: B018 - the property loads it
            return kernel

        future: Future[Any] = Future()
        self._waiting.put((compiling.get("") not in LONG, next(self._count), future, compile_and_load))
        self._pool.submit(self._run_next)
        return future

    def _run_next(self) -> None:
        *_, future, run = self._waiting.get_nowait()
        try:
            future.set_result(run())
        except BaseException as error:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)
        self._compilers.close()


def _quietly(run: Any) -> None:
    """An error would come again where it matters: in the step that needs the kernel."""
    try:
        run()
    except Exception as error:
        print(f"kernels are compiled when they are met, because: {error!r}", flush=True)


class Rehearsed(EagerRunner):
    """Chooses no tokens: what the network says is garbage."""

    def _choose(self, parts: list[Chosen], sequences: list[Sequence], drafts: list[tuple[int, ...]] | None) -> Launched:
        return Launched(list, may_be_followed=True)

    def take_graphs(self, every: bool) -> None:
        slots, context = self._cache.slots, self._cache.context
        sizes = graph_sizes(slots)
        guessing = next((rows for rows in sizes if rows > MOST_ROWS), slots)
        for rows in sizes:
            if every or rows <= guessing:  # one user's answer may have guesses behind its last token
                self._graphs.decode(rows)
        for shape in list_steps(slots, context):
            if every or (shape.decoding == decoding_rows(0, slots) and not shape.several):
                self._graphs.mixed(shape)


@torch.inference_mode()
def rehearse(
    network: Decoder, config: NetworkConfig, *, every_graph: bool, dtype: torch.dtype, device: torch.device, slots: int,
    context: int, prompt_tokens: int, beside: int,
) -> None:  # fmt: skip
    """Takes the way through all steps that a start and a first request take, without launching our kernels."""
    kinds = dict(zip(reversed(config.windows), reversed(network.blocks), strict=True))
    short = copy(network)
    short.blocks = list(kinds.values())
    config = replace(config, layers=len(kinds), windows=tuple(kinds))
    cache = KVCache.allocate(config, -(-context // GPU_BLOCK), GPU_BLOCK, slots, context, dtype, device)
    with only_compiling():
        runner = Rehearsed(short, cache, config.vocabulary)
        launch_largest(runner, slots=slots, context=context, prompt_tokens=prompt_tokens, beside=beside)
        runner.take_graphs(every_graph)
        runner.close()
