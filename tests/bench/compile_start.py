"""What compiling a start's kernels takes by threads and by processes, without a card; by turns, each in a process of its own.

    PYTHONPATH=operator:tests:hack python -m bench.compile_start [--bits 16 8] [--workers 2] [--rounds 3]

Qwen2.5-7B's shape with one layer and few words, for a Hopper card. Beside it a thread computes tiny products, as one that rounds
weights for a card launches kernels: it needs the interpreter all the time, a little of it at once. Prints seconds until all is
compiled, that thread is done (alone it takes 3), and both are, and seconds of the processor, imports included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from statistics import median

LIMITS = {"slots": 64, "context": 8192, "prompt_tokens": 2048, "beside": 256}
COUNT = 200_000
WORK = 3.0
"""Seconds that the thread beside it needs alone."""


def compile_all(bits: int, workers: int, processes: bool) -> None:
    import torch

    from localmodel.engine import rehearsal
    from localmodel.engine.qwen2 import Qwen2Network
    from localmodel.engine.shards import divide
    from rehearsed import CARD, SHAPE, as_on_a_card
    from triton import AsyncCompileMode

    torch.set_num_threads(1)
    as_on_a_card()
    torch.nn.functional.linear = lambda x, weight, bias=None: x.new_zeros(*x.shape[:-1], len(weight))  # a card's, not ours
    network = Qwen2Network(divide(replace(SHAPE, weight_bits=bits), 0, 1), LIMITS["context"], **CARD)
    x = torch.zeros(8, 8)

    def compute(count: float) -> float:
        """Seconds that so many take."""
        began = time.monotonic()
        for _ in range(int(count)):
            x @ x
        return time.monotonic() - began

    alone = compute(COUNT)
    took: list[float] = []
    beside = threading.Thread(target=lambda: took.append(compute(COUNT * WORK / alone)))
    sys.setswitchinterval(rehearsal.SWITCH_SECONDS)
    if not processes:
        rehearsal.Compilers = lambda count: NoCompilers()
    began = time.monotonic()
    beside.start()
    with rehearsal.Loading(workers) as pool, AsyncCompileMode(pool, ignore_errors=True):
        rehearsal.rehearse(network, network.config, every_graph=False, **CARD, **LIMITS)
    compiled = time.monotonic() - began
    beside.join()
    spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"compiled": compiled, "beside": took[0], "both": time.monotonic() - began, "processor": spent}))


class NoCompilers:
    def compile(self, compile: object) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", type=int, default=[16, 8])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        compile_all(**json.loads(arguments.one))
        return
    for bits in arguments.bits:
        seen: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(arguments.rounds):
            for processes, each in seen.items():
                case = {"bits": bits, "workers": arguments.workers, "processes": processes}
                command = [sys.executable, "-m", "bench.compile_start", "--one", json.dumps(case)]
                with tempfile.TemporaryDirectory() as kernels:
                    environment = {**os.environ, "TRITON_CACHE_DIR": kernels}
                    printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
                each.append(json.loads(printed.splitlines()[-1]))
        for processes, each in seen.items():
            middle = {name: median(one[name] for one in each) for name in each[0]}
            name = f"{bits} bits, {arguments.workers} {'processes' if processes else 'threads'}"
            print(
                f"{name}: compiled {middle['compiled']:.1f} s, "
                f"beside it {middle['beside']:.1f} s, both {middle['both']:.1f} s; {middle['processor']:.1f} s of the processor",
                flush=True,
            )


if __name__ == "__main__":
    main()
