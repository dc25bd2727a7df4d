"""Gives memory that nothing is in back to the system after a quiet time.

Why it exists: allocators keep what a burst of long prompts took, and on a shared machine somebody else could use it. It must
run between two steps, on the thread that computes: a step that is captured or running must not lose its memory.
"""

import ctypes
import sys

import torch

QUIET_SECONDS = 10.0
"""Without a step. The gateway's test request comes every 30 s."""


def release_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
