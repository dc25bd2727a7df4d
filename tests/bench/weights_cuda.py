"""Times of one product with weights of 16, 8 and 4 bits on a CUDA card, for the matrices of Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/weights_cuda.py [--rows 1 16 64 256] [--bits 8 4 16] [--tune] [--shapes o down]

Prints for each matrix and number of rows the median time (the card's second-level cache is emptied before each), the
dense bfloat16 product beside it, and bytes of the weight per second. `--tune` tries many block shapes, compiled in many
processes before, and prints the best three; the choice is written into `weight_products` by hand. Nothing is asserted but
that every variant computes the right thing.
"""

import argparse
import itertools
import os
import subprocess
import sys

import torch
import torch.nn.functional as F
from triton.testing import do_bench

from localmodel.engine.quantize import QuantizedWeight
from localmodel.engine.weight_kernels import multiply_row, multiply_rows
from localmodel.engine.weight_products import choose_row, choose_rows

SHAPES = {"qkv": (4608, 3584), "o": (3584, 3584), "gate_up": (37888, 3584), "down": (3584, 18944), "head": (152064, 3584)}
PROCESSES = 14


def variants(rows, bits, tune, count):
    """(kernel, its options)"""
    if rows == 1:
        if not tune:
            return [(multiply_row, choose_row(count, bits))]
        shapes = [(2, 64, 2), (4, 64, 2), (4, 32, 1), (4, 128, 4), (2, 128, 4), (2, 32, 1), (8, 32, 1), (4, 64, 1)]
        return [(multiply_row, {"rows": r, "chunks": c, "warps": w}) for r, c, w in shapes]
    if not tune:
        return [(multiply_rows, choose_rows(rows, count, bits))]
    columns = [c for c in (16, 32, 64, 128, 256) if c <= max(16, rows) and c * 4 >= rows]
    sizes = {
        16: [(16, 4), (32, 4), (64, 4)], 32: [(32, 4), (64, 4)], 64: [(64, 4), (128, 4), (128, 8)],
        128: [(64, 4), (128, 8), (128, 4)], 256: [(64, 4), (128, 8), (64, 8)],
    }  # fmt: skip
    found = []
    for c in columns:
        for (r, w), splits in itertools.product(sizes[c], (1, 2, 4, 8)):
            if splits > 1 and count // r * -(-rows // c) * splits > 1500:
                continue
            for tile in [128] if bits == 4 else [128, 64] if c < 128 else [64]:
                options = {"rows": r, "columns": c, "tile": tile, "splits": splits, "warps": w, "stages": 4 if c < 128 else 3}
                found.append((multiply_rows, options))
    return found


def make(shape, bits):
    """A weight and its dense form."""
    dense = torch.randn(shape, dtype=torch.bfloat16, device="cuda") * 0.02
    if bits == 16:
        return dense, dense.new_empty(0), dense.new_empty(0), 0, dense
    weight = QuantizedWeight.empty(*shape, bits, torch.bfloat16, dense.device)
    weight.copy_(dense)
    return weight.data, weight.scales, weight.minima, weight.group, weight.dense()


def measure(name, rows, bits, tune, shard=None):
    shape = SHAPES[name]
    torch.manual_seed(rows)
    data, scales, minima, group, dense = make(shape, bits)
    x = torch.randn(rows, shape[1], dtype=torch.bfloat16, device="cuda")
    bias = torch.randn(shape[0], dtype=torch.bfloat16, device="cuda")
    expected = F.linear(x.float(), dense.float(), bias.float())
    found = []
    for number, (kernel, options) in enumerate(variants(rows, bits, tune, shape[0])):
        if shard is not None and number % PROCESSES != shard:
            continue

        def product(kernel=kernel, options=options):
            return kernel(x, data, scales, minima, bias, bits, group, **options)

        try:
            error = ((product().float() - expected).norm() / expected.norm()).item()
        except Exception as failure:
            print(f"  {name} rows {rows} bits {bits} {options}: {type(failure).__name__} {str(failure)[:80]}", flush=True)
            continue
        assert error < 1e-2, (name, rows, bits, options, error)
        if shard is None:
            found.append((do_bench(product, warmup=5, rep=20, return_mode="median") * 1e3, kernel.__name__, options))
    if shard is not None:
        return
    plain = do_bench(lambda: F.linear(x, dense, bias), warmup=5, rep=20, return_mode="median") * 1e3
    size = data.nbytes + scales.nbytes + minima.nbytes
    for time, kernel, options in sorted(found, key=lambda entry: entry[0])[: 3 if tune else 1]:
        print(
            f"{name:8} rows {rows:3} bits {bits:2}: {time:7.1f} us, {plain / time:5.2f} x dense ({plain:7.1f} us), "
            f"{size / time / 1e6:5.2f} TB/s {kernel} {options}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--shard", type=int)
    arguments = parser.parse_args()
    if arguments.tune and arguments.shard is None:
        command = [sys.executable, *sys.argv]
        children = [subprocess.Popen([*command, "--shard", str(number)], env=os.environ) for number in range(PROCESSES)]
        for child in children:
            child.wait()
    for name, rows, bits in itertools.product(arguments.shapes, arguments.rows, arguments.bits):
        if not (bits == 16 and rows > 16):
            measure(name, rows, bits, arguments.tune, arguments.shard)


if __name__ == "__main__":
    main()
