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
from localmodel.engine.weight_hopper import multiply_many
from localmodel.engine.weight_planes_kernel import multiply_planes
from localmodel.engine.weight_products import LEAST_MANY, LEAST_PLANES, choose_planes, choose_row, choose_rows
from localmodel.engine.weight_row_kernel import multiply_row
from localmodel.engine.weight_row_planes_kernel import multiply_row_planes
from localmodel.engine.weight_rows_kernel import multiply_rows

SHAPES = {"qkv": (4608, 3584), "o": (3584, 3584), "gate_up": (37888, 3584), "down": (3584, 18944), "head": (152064, 3584)}
PROCESSES = 9
"""Each takes up to 7.7 GiB of the card."""


def chosen(rows, bits, count):
    """(kernel, its options)"""
    if rows == 1:
        return multiply_row if bits == 16 else multiply_row_planes, choose_row(bits)
    if bits < 16 and rows >= LEAST_MANY[bits]:
        return multiply_many, {}
    if bits == 8 and rows >= LEAST_PLANES:
        return multiply_planes, choose_planes(rows, count)
    return multiply_rows, choose_rows(rows, count, bits)


def variants(rows, bits, count):
    """[(kernel, its options)] to choose from."""
    found = []
    if rows == 1:
        shapes = [(1, 128, 4), (2, 128, 4), (4, 128, 4), (8, 128, 4), (8, 32, 1), (4, 64, 2), (8, 64, 2), (4, 256, 8)]
        kernel = multiply_row if bits == 16 else multiply_row_planes
        found += [
            (kernel, {"rows": r, "chunks": c, "ahead": a, "warps": w}) for (r, c, w), a in itertools.product(shapes, (1, 2))
        ]
    if bits == 16:
        return found
    if rows >= LEAST_MANY[bits]:
        found.append((multiply_many, {}))

    def add(kernel, blocks, options):
        for splits in (1, 2, 4, 8):
            if splits == 1 or blocks * splits <= 1500:
                found.append((kernel, {**options, "splits": splits}))

    if bits == 8 and rows >= 64:
        sizes = [(128, 128, 8), (64, 128, 4), (128, 64, 4), (128, 64, 8), (64, 64, 4)]
        for (r, c, w), stages in itertools.product(sizes, (3, 4)):
            options = {"rows": r, "columns": c, "tile": 128, "warps": w, "stages": stages}
            add(multiply_planes, count // r * -(-rows // c), options)
    columns = [c for c in (8, 16, 32, 64, 128, 256) if c <= max(8, rows) and c * 2 >= min(rows, 256)]
    sizes = {
        8: [(16, 1), (32, 2), (64, 4), (32, 1)], 16: [(16, 1), (32, 2), (64, 4), (32, 4)], 32: [(16, 1), (32, 2), (64, 4)],
        64: [(64, 4), (128, 4), (128, 8)], 128: [(64, 4), (128, 8)], 256: [(64, 4), (128, 8)],
    }  # fmt: skip
    for c in columns:
        for r, w in sizes[c]:
            depths = (3, 5) if c <= 32 else (3,)
            kinds = [{}] if bits == 4 else [{"tile": 128}, {"tile": 256}] if c <= 32 else [{"tile": 128 if c < 128 else 64}]
            for stages, kind in itertools.product(depths, kinds):
                options = {"rows": r, "columns": c, "warps": w, "stages": stages, **kind}
                add(multiply_rows, count // r * -(-rows // c), options)
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
    for number, (kernel, options) in enumerate(variants(rows, bits, shape[0]) if tune else [chosen(rows, bits, shape[0])]):
        if shard is not None and number % PROCESSES != shard:
            continue

        def product(kernel=kernel, options=options):
            if kernel is multiply_rows:
                return kernel(x, data, scales, minima, bias, bits, group, **options)
            if kernel is multiply_many:
                return kernel(x, data, scales, minima, bias, bits)
            if kernel is multiply_row_planes:
                return kernel(x, data, scales, minima, bias, bits, group, **options)
            if kernel is multiply_row:
                return kernel(x, data, bias, **options)
            return kernel(x, data, scales, bias, **options)

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
