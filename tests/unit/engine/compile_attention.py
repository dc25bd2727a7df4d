"""Compiles the kernels of attention for a Hopper card, which need not be there; prints of each name, type, size of a head, and
bytes of a thread's stack: the card takes them from its memory for every thread that it can hold, beside all that is planned."""

import re
import subprocess
import sys
import tempfile

import torch

from localmodel.engine import chunk_attention_kernel, paged_attention_kernel
from rehearsed import pretend_card


def stack_of(program: bytes, cuobjdump: str) -> int:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(program)
        file.flush()
        said = subprocess.run([cuobjdump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", said)[1])


def attention(dtype: torch.dtype, size: int) -> None:
    rows, context = 2, 9000
    queries, cache = torch.zeros(rows, 8, size, dtype=dtype), torch.zeros(64, 2, size, dtype=dtype)
    tables, numbers = torch.zeros(1, 200, dtype=torch.int32), torch.zeros(rows, dtype=torch.int64)
    output, given = torch.empty_like(queries), {"page": 64, "scale": 1.0, "context": context}
    paged_attention_kernel.decode_attention(queries, cache, cache, tables, numbers, numbers, output, **given)
    tiles = torch.zeros(1, 4, dtype=torch.int32)
    for longest in (2000, context):
        chunk_attention_kernel.chunk_attention(
            queries, cache, cache, tables, tiles, output, first_row=0, longest=longest, splits=1, **given
        )


def main(cuobjdump: str) -> None:
    pretend_card(90)
    for dtype in (torch.float32, torch.bfloat16):
        for size in (80, 128, 256):

            def compile_for_target(kernel, grid, *arguments, overlap="", dtype=dtype, size=size, **options):
                compiled = kernel.warmup(*arguments, grid=grid, **options)
                print(kernel.__name__, dtype, size, stack_of(compiled.asm["cubin"], cuobjdump))

            for module in (chunk_attention_kernel, paged_attention_kernel):
                module.launch = compile_for_target
            attention(dtype, size)


if __name__ == "__main__":
    main(sys.argv[1])
