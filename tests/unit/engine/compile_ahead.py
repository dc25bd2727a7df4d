"""Rehearses a start for a Hopper card, which need not be there; prints of each kernel its name and whether the engine found it
compiled by another process."""

import sys
from dataclasses import replace

from localmodel.engine import rehearsal
from localmodel.engine.families import choose_decoder
from localmodel.engine.shards import divide
from rehearsed import CARD, CONFIG, LIMITS, as_on_a_card
from triton import AsyncCompileMode, knobs


def main(bits: int, processes: int) -> None:
    as_on_a_card()
    knobs.compilation.listener = lambda *, src, cache_hit, **_: sys.stdout.write(f"{src.name} {cache_hit}\n")
    family, parse = choose_decoder("Qwen2ForCausalLM")
    config = replace(divide(parse(CONFIG), 0, 1), weight_bits=bits)
    network = family(config, LIMITS["context"], **CARD)
    with rehearsal.Loading(processes) as pool, AsyncCompileMode(pool, ignore_errors=True):  # nothing can be loaded
        rehearsal.rehearse(network, config, every_graph=False, **CARD, **LIMITS)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
