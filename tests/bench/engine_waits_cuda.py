"""What waits on a CUDA card, with random weights in Qwen2.5-7B's shape: first tokens with a shared prefix, and streams beside
arriving long prompts.

    PYTHONPATH=operator python tests/bench/engine_waits_cuda.py [--layers 28] [--rounds 5] [--chunks 112 176]

Prints: time to the first token of a prompt of 8,000 tokens, computed whole and with 90 % of it cached; steps per second with
prompts that share nothing, with and without a look for shared prefixes; the gaps between tokens of 16 streams alone and while
prompts of 16,000 tokens arrive; a document of 7,000 tokens answered in 200. Nothing is asserted.
"""

import argparse
import gc
import statistics
import time
from functools import partial

import torch
from shape_cuda import make_network

from localmodel.api.channel import Sampling
from localmodel.engine import holding
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.card_steps import room_beside
from localmodel.engine.engine import Engine
from localmodel.engine.housekeeping import settle
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.loader import GPU_BURST, GPU_CHUNK
from localmodel.engine.network_config import parse_network_config
from localmodel.engine.qwen2 import Qwen2Network
from localmodel.engine.scheduler import Scheduler

CONTEXT = 20_000
SLOTS = 32
BLOCKS = 3_500


def make_engine(layers: int) -> Engine:
    reference = make_network(layers)
    sizes = parse_network_config(reference.config.to_dict())
    device = torch.device("cuda")
    network = Qwen2Network(sizes, CONTEXT, torch.bfloat16, device)
    source = reference.state_dict()
    for name, place in network.tensors():
        place.copy_(source[name])
    del reference, source
    torch.cuda.empty_cache()
    cache = KVCache.allocate(sizes, BLOCKS, GPU_BLOCK, SLOTS, CONTEXT, torch.bfloat16, device)
    beside = partial(room_beside, slots=SLOTS)
    scheduler = Scheduler(SLOTS, GPU_CHUNK, BlockPool(BLOCKS, GPU_BLOCK), burst=GPU_BURST, beside=beside)
    launch = CardRunner(network, cache, sizes.vocabulary).launch
    return Engine(launch, scheduler, slots=SLOTS, context=CONTEXT, vocabulary=sizes.vocabulary, stop_tokens=frozenset())


def ask(engine: Engine, key: object, prompt: list[int], tokens: int) -> None:
    engine.add_request(key, prompt, Sampling(temperature=0, max_tokens=tokens, ignore_eos=True))


def finish(engine: Engine) -> None:
    while any(engine.load()[:2]):
        engine.step()
    engine.step()


def first_token(engine: Engine, prompt: list[int]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    ask(engine, "first", prompt, 1)
    while not any(output.token is not None for output in engine.step()):
        pass
    seconds = time.perf_counter() - began
    finish(engine)
    return seconds


def gaps(engine: Engine, seconds: float, arriving: int, first: int = 7_000) -> list[float]:
    """Times between tokens of 16 streams; `arriving` prompts of 16,000 tokens come one after another, from token `first` on."""
    for number in range(16):
        ask(engine, number, [number + 5, *range(1000, 1500)], 4_000)
    for _ in range(60):
        engine.step()
    times, last, sent = [], time.perf_counter(), 0
    until = last + seconds
    while time.perf_counter() < until:
        if sent < arriving and engine.load()[0] == 16:
            ask(engine, ("long", sent), [first + sent, *range(2_000, 17_999)], 1)
            sent += 1
        outputs = engine.step()
        now = time.perf_counter()
        if any(isinstance(output.key, int) for output in outputs):
            times.append(now - last)
            last = now
    for number in range(16):
        engine.cancel(number)
    finish(engine)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", nargs="*", type=int, default=[], help="prompt tokens beside streams, besides the default")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    engine = make_engine(arguments.layers)
    collections = []
    for _ in range(2):
        began = time.perf_counter()
        gc.collect()
        collections.append((time.perf_counter() - began) * 1e3)
        settle()
    print(f"the collector looks at everything in {collections[0]:.1f} ms, after `settle` in {collections[1]:.1f}", flush=True)
    first_token(engine, [1, *range(1000, 8999)])
    whole, shared = [], []
    for number in range(arguments.rounds):
        beginning = [10 + number, *range(1000, 8199)]
        whole.append(first_token(engine, beginning + list(range(20_000, 20_800))))
        shared.append(first_token(engine, beginning + list(range(30_000, 30_800))))
    a, b = statistics.median(whole), statistics.median(shared)
    print(f"first token of 8,000: {a * 1e3:.0f} ms, with 90 % cached {b * 1e3:.0f} ms ({b / a:.2f})", flush=True)
    costs = {True: [], False: []}
    find = holding.find_prefix
    for number in range(2 * arguments.rounds):
        looks = number % 4 in (1, 2)  # neither is always first
        holding.find_prefix = find if looks else lambda pool, sequence: []
        costs[looks].append(first_token(engine, [100 + number, *range(1000, 8999)]))
    holding.find_prefix = find
    a, b = (statistics.median(costs[looks]) for looks in (False, True))
    print(f"no hits: {a * 1e3:.1f} ms without a look for prefixes, {b * 1e3:.1f} with ({b / a - 1:+.1%})", flush=True)
    chosen = engine._scheduler._beside
    for number, chunk in enumerate([None, *arguments.chunks]):
        engine._scheduler._beside = chosen if chunk is None else lambda decoding, start, chunk=chunk: chunk
        gaps(engine, 2, 2, 7_000 + 10 * number)  # captures
        idle = gaps(engine, 4, 0)
        storm = gaps(engine, 8, 12, 7_100 + 100 * number)
        a, b = (statistics.quantiles(times, n=100)[98] for times in (idle, storm))
        print(f"16 streams, p99 gap: {a * 1e3:.1f} ms alone, {b * 1e3:.1f} ms beside prompts of 16,000 ({b / a:.2f})", end=", ")
        middle, longest, way = statistics.median(storm) * 1e3, max(storm) * 1e3, chunk or "chosen"
        print(f"median {middle:.1f} ms, longest {longest:.1f}, {len(storm)} steps, {way} prompt tokens in each", flush=True)
    engine._scheduler._beside = chosen
    ask(engine, "warm", [4, *range(1000, 7999)], 20)
    finish(engine)
    began = time.perf_counter()
    ask(engine, "document", [3, *range(1000, 7999)], 200)
    finish(engine)
    print(f"a document of 7,000 tokens answered in 200: {time.perf_counter() - began:.2f} s", flush=True)


if __name__ == "__main__":
    main()
