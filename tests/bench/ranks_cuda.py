"""Decoded tokens per second of one card and of several that share the network, with random weights in Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/ranks_cuda.py [--cards 2] [--layers 28] [--rounds 2] [--batches 1 16 64]
        [--quantization None]

Writes the model once. Then, alternately, a process that serves it from one card and one that serves it from `--cards`: medians of
each, their ratio, load time, and the memory of every card as predicted and as nvidia-smi reports it. Also what a step's plan
costs the first rank: bytes and microseconds. Nothing is asserted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmodel.engine.ranks import Ranks
    from localmodel.engine.sequence import Work


def serve(directory: str, cards: int, batches: list[int], quantization: str) -> None:
    """One process: prints a JSON line."""
    from engine_cuda import decode_ours

    from localmodel.api.engine import EngineConfig
    from localmodel.engine.loader import load_model
    from localmodel.engine.ranks import Ranks
    from localmodel.engine.service import build_engine
    from localmodel.engine.team import Alone

    config = EngineConfig(
        model_path=directory, device="cuda", gpu_count=cards, context_window=4096, max_batch_size=max(batches),
        quantization=quantization, channel_token_file=f"{directory}/token",
    )  # fmt: skip
    began = time.perf_counter()

    def end(failure: Exception) -> None:
        print(failure, flush=True)
        os._exit(1)

    ranks = Ranks(config, end, end) if cards > 1 else None
    model = load_model(config, ranks or Alone())
    engine = build_engine(model, ranks)
    loaded = time.perf_counter() - began
    spent: list[tuple[float, int]] = []
    if ranks:
        watch_plans(ranks, spent)
    rates = {}
    for batch in batches:
        decode_ours(engine, batch, 960, 2000)
        spent.clear()
        rates[batch] = batch / decode_ours(engine, batch, 960, 3000)
        if spent:
            seconds, sizes = zip(*spent[-32:], strict=True)
            print(
                f"  plan at {batch}: {statistics.median(seconds) * 1e6:.0f} us, {statistics.median(sizes):.0f} bytes", flush=True
            )
    used = subprocess.check_output(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], text=True)
    memory = [int(line) * 2**20 for line in used.split()][:cards]
    print(json.dumps({"rates": rates, "loaded": loaded, "memory": memory, "predicted": model.predicted_bytes}), flush=True)
    if ranks:
        ranks.stop()
    os._exit(0)


def watch_plans(ranks: "Ranks", spent: list[tuple[float, int]]) -> None:
    """Notes what it takes to make each plan and to send it."""
    write, (first, *_) = ranks._plans.write, ranks._processes
    send = first.link.send

    def timed_write(works: "list[Work]") -> bytes:
        began = time.perf_counter()
        plan = write(works)
        spent.append((time.perf_counter() - began, len(plan)))
        return plan

    def timed_send(plan: bytes) -> None:
        began = time.perf_counter()
        send(plan)
        seconds, size = spent[-1]
        spent[-1] = seconds + time.perf_counter() - began, size

    ranks._plans.write, first.link.send = timed_write, timed_send


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=2)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--quantization", default="None")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(**json.loads(arguments.serve))
        return
    import torch
    from shape_cuda import saved_network

    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    with saved_network(arguments.layers) as directory:
        results: dict[int, list[dict]] = {1: [], arguments.cards: []}
        for _ in range(arguments.rounds):
            for cards, seen in results.items():
                case = {
                    "directory": str(directory), "cards": cards, "batches": arguments.batches,
                    "quantization": arguments.quantization,
                }  # fmt: skip
                command = [sys.executable, __file__, "--serve", json.dumps(case)]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                print(f"{cards} card(s):\n{printed}", flush=True)
                seen.append(json.loads(printed.splitlines()[-1]))
        for batch in map(str, arguments.batches):
            one, several = (statistics.median(each["rates"][batch] for each in seen) for seen in results.values())
            print(f"batch {batch:>3}: {one:8.1f} tok/s on one, {several:8.1f} on {arguments.cards}: {several / one:.2f} x")


if __name__ == "__main__":
    main()
