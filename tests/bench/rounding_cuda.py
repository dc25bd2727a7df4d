"""How long a layer of Qwen2.5-7B's shape takes to be rounded with compensation, on a CUDA card (or, smaller, anywhere).

    PYTHONPATH=operator python tests/bench/rounding_cuda.py [--device cuda] [--shrink 1]

Random weights, inputs of 4,096 tokens. Prints seconds for each matrix and for 28 layers.
"""

import argparse
import time

import torch

from localmodel.engine.packing import group_of
from localmodel.engine.rounding import compensate

MATRICES = {"qkv": (4608, 3584), "output": (3584, 3584), "gate_up": (37888, 3584), "down": (3584, 18944)}
TOKENS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shrink", type=int, default=1, help="divides all sizes")
    arguments = parser.parse_args()
    total = 0.0
    for name, sizes in {"warm": (512, 512), **MATRICES}.items():
        rows, columns = (size // arguments.shrink // 128 * 128 for size in sizes)
        weight = torch.randn(rows, columns, device=arguments.device)
        inputs = torch.randn(TOKENS, columns, device=arguments.device)
        wait(arguments.device)
        began = time.perf_counter()
        compensate(weight, inputs.T @ inputs, group_of(columns), torch.bfloat16)
        wait(arguments.device)
        seconds = time.perf_counter() - began
        print(f"{name:8} [{rows}, {columns}]: {seconds:.2f} s", flush=True)
        total += seconds if name in MATRICES else 0
    print(f"28 layers: {28 * total:.0f} s")


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
