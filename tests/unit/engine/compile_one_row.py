"""Compiles the products of one row for cards, which need not be there; prints name and bytes of shared memory of each, and how
many its last sum needs."""

import sys
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from localmodel.engine import weight_products, weight_row_kernel, weight_row_planes_kernel
from localmodel.engine.quantize import QuantizedWeight

SIZE = 2048


def compile_for_target(kernel, grid, *arguments, **options):
    compiled = kernel.warmup(*arguments, grid=grid, **options)
    print(kernel.__name__, compiled.metadata.shared, 4 * options["ROWS"] * options["num_warps"])


def main(capability: int) -> None:
    target = GPUTarget("cuda", capability, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
        )
    )  # fmt: skip
    for module in (weight_row_kernel, weight_row_planes_kernel):
        module.launch, module.uses_kernels = compile_for_target, lambda x: True
    x = torch.zeros(1, SIZE, dtype=torch.bfloat16)
    for count in (weight_products.LARGE // 2, weight_products.LARGE * 2):
        weight_products.multiply_one(x, torch.zeros(count, SIZE, dtype=x.dtype), None)
        for bits in (8, 4):
            weight = QuantizedWeight.empty(count, SIZE, bits, x.dtype, x.device)
            for whole in (False, True):
                weight_products.WHOLE[bits] = whole
                weight_products.multiply_rounded(x, weight, None)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        main(int(word))
