"""How a kernel begins while the one ahead of it still runs, in Triton-the-language.

Why it exists: a decoded token is 280 kernels, and between two of them a card of the Hopper generation idles for a microsecond or
more. Launched so that it need not wait (`kernels.launch`), a kernel waits by itself, once it has asked for what no kernel
writes: weights. It must not touch anything else before.

Each that is launched so waits, in at least one thread of every program, and any other begins when all have ended: what is true
of the one ahead is true of all before it.
OVERLAP is "early" or "late", which says when the next one may begin, or empty where a card can't.
"""

import triton.language as tl

import triton


@triton.jit
def wait_for_inputs(OVERLAP: tl.constexpr):
    """Until all kernels ahead have ended."""
    if OVERLAP == "early":
        tl.extra.cuda.gdc_launch_dependents()
    if OVERLAP != "":
        tl.extra.cuda.gdc_wait()


@triton.jit
def let_next_begin(OVERLAP: tl.constexpr):
    """Once every program has come here, or has ended. Without it, "late" means that they have ended."""
    if OVERLAP == "late":
        tl.extra.cuda.gdc_launch_dependents()
