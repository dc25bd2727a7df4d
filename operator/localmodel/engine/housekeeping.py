"""What is done outside of steps: unused memory goes back after a quiet time, and Python's collector learns what stays.

Why it exists: allocators keep what a burst of long prompts took, and on a shared machine somebody else could use it. It must
run between two steps, on the thread that computes: a step that is captured or running must not lose its memory. A collection
that looks at all of torch in the middle of an answer is a pause that clients see.
"""

import ctypes
import gc
import sys

import torch

QUIET_SECONDS = 10.0
"""Without a step. The gateway's test request comes every 30 s."""
YOUNG_OBJECTS = 20_000
"""New ones before the collector looks at them, holding the interpreter. With Python's usual 700 it did so every few steps of many
sequences, whose events are no garbage, for up to 8 ms. What reference counts do not free is little: cycles in exceptions."""


def release_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def settle() -> None:
    """Call when all that lives to the end has been made: the collector looks at it no more, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
