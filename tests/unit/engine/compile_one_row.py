"""Compiles the products of one row for cards, which need not be there. Prints of each its name, bytes of shared memory, how many
its last sum needs, and how many loads from the card's memory come before it waits for the kernel ahead, 0 if it does not."""

import sys

import torch
from triton.runtime import driver

from localmodel.engine import weight_products, weight_row_kernel, weight_row_planes_kernel
from localmodel.engine.quantize import QuantizedWeight
from rehearsed import pretend_card

COUNT, SIZE = 4096, 2048


def compile_for_target(kernel, grid, *arguments, overlap, **options):
    if driver.active.get_current_target().arch >= 90:
        options |= {"OVERLAP": overlap, "launch_pdl": True}
    kernel.device_caches.clear()  # it would stay with the first card
    compiled = kernel.warmup(*arguments, grid=grid, **options)
    before, waits, _ = compiled.asm["ptx"].partition("griddepcontrol.wait")
    ahead = before.count("ld.global") if waits else 0
    print(kernel.__name__, compiled.metadata.shared, 4 * options["ROWS"] * options["num_warps"], ahead)


def main(capability: int) -> None:
    pretend_card(capability)
    for module in (weight_row_kernel, weight_row_planes_kernel):
        module.launch, module.uses_kernels = compile_for_target, lambda x: True
    x = torch.zeros(1, SIZE, dtype=torch.bfloat16)
    weight_products.multiply_one(x, torch.zeros(COUNT, SIZE, dtype=x.dtype), None)
    for bits in (8, 4):
        weight_products.multiply_rounded(x, QuantizedWeight.empty(COUNT, SIZE, bits, x.dtype, x.device), None)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        main(int(word))
