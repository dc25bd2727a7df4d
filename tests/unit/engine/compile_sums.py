"""Compiles products of 8 and of 200 rows with a rounded weight, as they are launched on a Hopper card, which need not be there;
prints PTX of the kernels that add parts."""

import sys

import torch

from localmodel.engine import kernels
from localmodel.engine.quantize import QuantizedWeight
from rehearsed import CARD, as_on_a_card


def show(kernel, grid, arguments, options):
    compiled = kernel.warmup(*arguments, grid=grid, **options)
    if "sum" in kernel.__name__:
        print(f"=== {kernel.__name__}\n{compiled.asm['ptx']}")


def main(bits: int) -> None:
    as_on_a_card()
    kernels._launch = show
    weight = QuantizedWeight.empty(3584, 3584, bits, **CARD)
    for rows in (8, 200):
        weight.multiply(torch.zeros(rows, 3584, dtype=torch.bfloat16), None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
