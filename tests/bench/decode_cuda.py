"""What a step that only decodes costs on a CUDA card, with weights of 16, 8 and 4 bits in Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/decode_cuda.py [--bits 16 8 4] [--batches 1 16 64 256] [--profile] [--apart]

Numbers are random and loaded from nowhere, so it starts in seconds; each sequence has 1,000 tokens behind it, 600 from 128
sequences on. Prints for each number of sequences milliseconds of its graph's replay, tokens per second, and the ratio to the
first of `--bits`. `--apart`: by turns with kernels of which each begins when the one ahead has ended (0041), and how many times
as long that takes. Nothing is asserted.
"""

import argparse
import gc
from dataclasses import replace

import torch
from steps_cuda import print_profile, time_graph

from localmodel.engine import card_runner, kernels
from localmodel.engine.card_inputs import decode_rows
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.network_config import parse_network_config
from localmodel.engine.quantize import QuantizedWeight, Weight
from localmodel.engine.qwen2 import Qwen2Network
from localmodel.engine.sequence import Sequence, Work

CONFIG = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 1e6, "tie_word_embeddings": False,
}  # fmt: skip
CONTEXT = 4096
BLOCKS = 1024 // GPU_BLOCK
"""Of each sequence."""


def fill(weight: Weight) -> None:
    if isinstance(weight, QuantizedWeight):
        weight.data.random_(-127, 128) if weight.bits == 8 else weight.data.random_(0, 256)
        weight.scales.uniform_(2e-4, 4e-4) if weight.bits == 8 else weight.scales.uniform_(3e-3, 5e-3)
        weight.minima.uniform_(-0.04, -0.02)
    else:
        weight.normal_(std=0.02)


def make_network(bits: int) -> Qwen2Network:
    sizes = replace(parse_network_config(CONFIG), weight_bits=bits)
    network = Qwen2Network(sizes, CONTEXT, torch.bfloat16, torch.device("cuda"))
    for block in network.blocks:
        for linear in (block.attention.qkv, block.attention.output, block.mlp.gate_up, block.mlp.down):
            fill(linear.weight)
        block.attention.qkv.bias.zero_()
        block.attention_norm.weight.fill_(1)
        block.mlp_norm.weight.fill_(1)
    network.norm.weight.fill_(1)
    fill(network.words.embedding)
    fill(network.words.head)
    return network


def measure(network: Qwen2Network, batch: int, profile: bool) -> float:
    """Milliseconds of a step."""
    cache = KVCache.allocate(network.config, batch * BLOCKS, GPU_BLOCK, batch, CONTEXT, torch.bfloat16, torch.device("cuda"))
    cache.keys.normal_()
    cache.values.normal_()
    runner = CardRunner(network, cache, network.config.vocabulary)
    runner._tables[:, :BLOCKS] = torch.arange(batch * BLOCKS).view(batch, BLOCKS)
    length = 1000 if batch < 128 else 600
    works = []
    for slot in range(batch):
        blocks = list(range(slot * BLOCKS, (slot + 1) * BLOCKS))
        works.append(Work(Sequence(slot, (0,) * length, 99, answer=[5]), slot, length, 1, True, 0, blocks))
    graph = runner._graphs.decode(batch)
    milliseconds = time_graph(graph, decode_rows(works, batch, {}, GPU_BLOCK))
    if profile:
        print_profile(graph)
    runner.close()
    return milliseconds


def measure_apart(network: Qwen2Network, batch: int) -> float:
    overlaps = kernels.overlaps
    kernels.overlaps = lambda device: False
    try:
        return measure(network, batch, False)
    finally:
        kernels.overlaps = overlaps


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", type=int, default=[16, 8, 4])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--apart", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    card_runner.largest_steps = lambda slots, context: []  # no graphs with prompts
    first: dict[int, float] = {}
    for bits in arguments.bits:
        network = make_network(bits)
        for batch in arguments.batches:
            time = measure(network, batch, arguments.profile)
            ratio = first.setdefault(batch, time) / time
            line = f"{bits:2} bits, {batch:3}: {time:7.3f} ms, {batch / time * 1e3:9.1f} tokens/s, {ratio:.3f} x"
            if arguments.apart:
                line += f"; apart {measure_apart(network, batch) / time:.3f} x as long"
            print(line, flush=True)
        del network
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
