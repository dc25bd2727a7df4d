"""What a step costs on a CUDA card with prompts beside sequences that decode: random weights in Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/steps_cuda.py [--layers 28] [--decoding 16 64 256] [--totals 128 256] [--profile]

Prints for each number of decoding sequences (1,000 tokens behind each) the time of a graph that only decodes, and of graphs whose
rows are so many in all, with the prompt behind a short, a middle and a long past: milliseconds, how many times the first that is,
and prompt tokens per millisecond. `card_steps.room_beside` is chosen by this table. Nothing is asserted.
"""

import argparse
import statistics

import numpy as np
import torch
from engine_waits_cuda import BLOCKS, CONTEXT, make_network

from localmodel.engine.card_inputs import decode_rows, step_numbers
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.card_steps import LENGTHS, StepShape
from localmodel.engine.chunk_attention_kernel import tile_rows
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.network_config import parse_network_config
from localmodel.engine.qwen2 import Qwen2Network
from localmodel.engine.sequence import Sequence, Work

PASTS = (1_000, 7_500, 15_700)


def make_runner(layers: int, slots: int) -> CardRunner:
    reference = make_network(layers)
    sizes = parse_network_config(reference.config.to_dict())
    network = Qwen2Network(sizes, CONTEXT, torch.bfloat16, torch.device("cuda"))
    source = reference.state_dict()
    for name, place in network.tensors():
        place.copy_(source[name])
    del reference, source
    torch.cuda.empty_cache()
    cache = KVCache.allocate(sizes, BLOCKS, GPU_BLOCK, slots, CONTEXT, torch.bfloat16, torch.device("cuda"))
    cache.keys.normal_()
    cache.values.normal_()
    runner = CardRunner(network, cache, sizes.vocabulary)
    runner._tables.random_(BLOCKS)
    return runner


def make_work(slot: int, start: int, count: int, answered: bool) -> Work:
    prompt = tuple(np.random.randint(0, 150_000, start + count - answered).tolist())
    blocks = np.random.permutation(BLOCKS)[: (start + count) // GPU_BLOCK + 1].tolist()
    return Work(Sequence(slot, prompt, 99, answer=[5] * answered), slot, start, count, True, 0, blocks)


def time_graph(graph, numbers: np.ndarray) -> float:
    """Milliseconds of a replay, the median of five times ten."""
    graph.numbers.copy_(torch.from_numpy(numbers.reshape(-1)))
    times = []
    for _ in range(6):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(10):
            graph.graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 10)
    return statistics.median(times[1:])


def print_profile(graph) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(4):
            graph.graph.replay()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    for event in events[:10]:
        print(f"      {event.device_time_total / 4:8.1f} us {event.count / 4:6.1f} x {event.key[:100]}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--decoding", nargs="+", type=int, default=[16, 64, 128, 256])
    parser.add_argument("--totals", nargs="+", type=int, default=[128, 144, 192, 256, 320, 384, 512, 768])
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    slots = max(arguments.decoding) + 1
    runner = make_runner(arguments.layers, slots)
    lengths = (*LENGTHS, CONTEXT)
    for rows in sorted(arguments.decoding, reverse=True):
        works = [make_work(slot, 1_000, 1, True) for slot in range(rows)]
        idle = time_graph(runner._graphs.decode(rows), decode_rows(works, rows, {}, GPU_BLOCK))
        print(f"{rows} decode: {idle:.2f} ms", flush=True)
        for total in sorted(arguments.totals, reverse=True):
            room = total - rows
            if room < 64:
                continue
            cells = []
            for past, longest in zip(PASTS, lengths, strict=True):
                shape = StepShape(rows, room, longest, several=False)
                prompt = make_work(0, past, room, False)
                numbers = step_numbers(works, [prompt], shape, slots, tile_rows(torch.bfloat16, 128, longest), {}, GPU_BLOCK)
                graph = runner._graphs.mixed(shape)
                time = time_graph(graph, numbers)
                cells.append(f"{time:6.2f} ms ({time / idle:.2f} x, {room / time:4.1f}/ms)")
                if arguments.profile and past == PASTS[-1] and total == 256:
                    print_profile(graph)
                del runner._graphs._mixed[shape], graph
            print(f"  {room:3} of a prompt behind {', '.join(map(str, PASTS))}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
