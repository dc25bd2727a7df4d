"""What guessing from the text brings and costs on a CUDA card: one engine with and without it by turns, Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/speculation_cuda.py [--layers 28] [--bits 16] [--batches 1 4 8 16] [--rounds 3]

The network computes everything, and its answers are made to order: what follows a token depends on that alone. Tokens below
CYCLE come round again, and at a temperature some take a short cut, as a copy that is not quite one; of others none comes twice.
Prints medians of tokens per second, their ratio, and how many guesses were right. Nothing is asserted.
"""

import argparse
import statistics
import time
from functools import partial

import torch
from decode_cuda import make_network
from engine_waits_cuda import SLOTS

from localmodel.api.channel import Sampling
from localmodel.engine import card_runner
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.card_steps import room_beside
from localmodel.engine.engine import Engine
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.loader import GPU_BURST, GPU_CHUNK
from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.qwen2 import Qwen2Network
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.speculation import Speculation, for_card

ANSWER = 400
PROMPT = 500
CYCLE, CUT = 50, 7
LESS = 0.97
"""Of a token's logit, that of the other that may follow it: 72 and 70."""
CONTEXT, BLOCKS = 4096, 1024
KINDS = {  # temperature, and the first token of a prompt
    "copies all": (0, 0),
    "9 of 10": (1, 0),
    "3 of 4": (2, 0),
    "copies nothing": (0, 1000),
}


def write_answers(network: Qwen2Network) -> None:
    """Into the words; what layers add to a token is taken away."""
    for block in network.blocks:
        for weight in (block.attention.output.weight, block.mlp.down.weight):
            for part in (weight.scales, weight.minima) if isinstance(weight, QuantizedWeight) else (weight,):
                part.zero_()
    words = torch.randn(network.words.head.shape, dtype=torch.bfloat16, device="cuda") * 0.02
    network.words.embedding.copy_(words)
    head = torch.zeros_like(words)
    head[CYCLE + 1 :] = words[CYCLE:-1]
    for token in range(CYCLE):
        head[(token + 1) % CYCLE] += words[token]
        head[(token + CUT) % CYCLE] += LESS * words[token]
    network.words.head.copy_(head)


def make_engine(layers: int, bits: int) -> Engine:
    network = make_network(bits)
    del network.blocks[layers:]
    write_answers(network)
    sizes = network.config
    cache = KVCache.allocate(sizes, BLOCKS, GPU_BLOCK, SLOTS, CONTEXT, torch.bfloat16, torch.device("cuda"))
    launch = CardRunner(network, cache, sizes.vocabulary).launch
    scheduler = make_scheduler(None)
    return Engine(launch, scheduler, slots=SLOTS, context=CONTEXT, vocabulary=sizes.vocabulary, stop_tokens=frozenset())


def make_scheduler(speculation: Speculation | None) -> Scheduler:
    """Knows no beginnings: another one has written over them."""
    return Scheduler(
        SLOTS, GPU_CHUNK, BlockPool(BLOCKS, GPU_BLOCK), burst=GPU_BURST, beside=partial(room_beside, slots=SLOTS),
        speculation=speculation,
    )  # fmt: skip


def tokens_per_second(engine: Engine, batch: int, temperature: float, first: int) -> float:
    sampling = Sampling(temperature=temperature, top_k=2 if temperature else 0, max_tokens=ANSWER, ignore_eos=True)
    for number in range(batch):
        begin = first + 1000 * number * bool(first) + number
        prompt = range(begin, begin + PROMPT)
        engine.add_request(number, list(prompt) if first else [token % CYCLE for token in prompt], sampling)
    answering: set[object] = set()
    while len(answering) < batch:
        answering |= {output.key for output in engine.step()}
    began, made = time.perf_counter(), 0
    while any(engine.load()[:2]):
        made += sum(output.token is not None for output in engine.step())
    seconds = time.perf_counter() - began
    engine.step()
    return made / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--bits", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    card_runner.largest_steps = lambda slots, context: []
    engine = make_engine(arguments.layers, arguments.bits)
    speculation = for_card(arguments.bits, SLOTS)
    for batch in arguments.batches:
        for kind, (temperature, first) in KINDS.items():
            rates: dict[Speculation | None, list[float]] = {None: [], speculation: []}
            for round_ in range(arguments.rounds + 1):  # graphs are captured in the first
                for used, measured in rates.items():
                    engine._scheduler = make_scheduler(used)
                    measured.append(tokens_per_second(engine, batch, temperature, first))
                if not round_:
                    before = speculation.drafted_tokens_total, speculation.accepted_tokens_total
            drafted, right = speculation.drafted_tokens_total - before[0], speculation.accepted_tokens_total - before[1]
            without, guessing = (statistics.median(each[1:]) for each in rates.values())
            print(
                f"{batch:2} sequences, {kind}: {without:7.1f} tokens/s, guessing {guessing:7.1f} ({guessing / without:.2f} x), "
                f"{right} of {drafted} guesses right",
                flush=True,
            )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
