"""Rehearses a start for a Hopper card, which need not be there; prints of each kernel its name and whether the engine found it
compiled by another process."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from localmodel.engine import kernels, layers, linear, quantize, rehearsal, weight_hopper, words
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.families import choose_decoder
from localmodel.engine.shards import divide
from rehearsed import CONFIG, LIMITS, make_weight
from triton import AsyncCompileMode, knobs


def main(bits: int, threads: int) -> None:
    target = GPUTarget("cuda", 90, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
        )
    )  # fmt: skip
    for module in (layers, quantize):
        module.uses_kernels = lambda x: True
    for module in (linear, words):
        module.make_weight = make_weight
    kernels.overlaps = lambda device: True
    weight_hopper._card = lambda device: (True, 132)
    CardRunner._pin = staticmethod(torch.from_numpy)
    torch.cuda.is_current_stream_capturing = lambda: False
    rehearsal.LEAST = 1
    knobs.compilation.listener = lambda *, src, cache_hit, **_: sys.stdout.write(f"{src.name} {cache_hit}\n")
    family, parse = choose_decoder("Qwen2ForCausalLM")
    config = replace(divide(parse(CONFIG), 0, 1), weight_bits=bits)
    made = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    network = family(config, LIMITS["context"], *made.values())
    with rehearsal.Loading(threads) as pool, AsyncCompileMode(pool, ignore_errors=True):  # nothing can be loaded
        rehearsal.rehearse(network, config, every_graph=False, **made, **LIMITS)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
