"""Compiles `weight_hopper_kernel` for a Hopper card, which need not be there; prints bytes of shared memory, and PTX."""

import sys

from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource

import triton
from localmodel.engine.weight_hopper import PARTS, REGISTERS, ROWS, SMALL, STAGES, piece_of
from localmodel.engine.weight_hopper_kernel import product_kernel


def main(bits: int, columns: int) -> None:
    launched, registers = REGISTERS[2 if columns <= SMALL else 1]
    piece = piece_of(columns)
    pointers = {"scales": "*bf16", "minima": "*bf16", "bias": "*bf16", "partials": "*fp32"}
    descriptors = {
        "weight": f"tensordesc<i16[64, 32],{PARTS!r}>",
        "x": f"tensordesc<bf16[{piece}, 64],{ROWS!r}>",
        "output": f"tensordesc<bf16[{piece}, 64],{ROWS!r}>",
    }
    numbers = dict.fromkeys(("M", "N", "biased", "items", "whole", "splits", "steps", "blocks"), "i32")
    constants = {
        "BITS": bits,
        "COLUMNS": piece,
        "PIECES": columns // piece,
        "STAGES": STAGES[columns][bits == 4],
        "REGISTERS": registers,
        "OVERLAP": "early",
    }
    signature = {**pointers, **descriptors, **numbers, **dict.fromkeys(constants, "constexpr")}
    names = product_kernel.arg_names
    assert list(signature) == names
    places = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers}
    source = GluonASTSource(product_kernel, signature, places, aligned)
    options = {"num_warps": 4, "maxnreg": launched}
    kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.metadata.shared)
    print(kernel.asm["ptx"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
