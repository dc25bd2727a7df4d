"""Compiles kernels at their largest for a card with little shared memory, which need not be there; prints name and bytes of each.

In bfloat16 and with one stage, which is what `kernels.launch` comes to where no more fit.
"""

import torch

from localmodel.engine import (
    chunk_attention_kernel,
    paged_attention_kernel,
    weight_products,
    weight_rows_kernel,
)
from rehearsed import pretend_card

CAPABILITY = 86  # RTX 30, A10; as much has 89 (RTX 40, L4) and 120 (RTX 50)
WIDE = 256
"""Numbers of the widest heads (Gemma 3)."""


def compile_for_target(kernel, grid, *arguments, overlap="", **options):
    compiled = kernel.warmup(*arguments, grid=grid, **{**options, "num_stages": 1})
    print(kernel.__name__, compiled.metadata.shared)


def attention() -> None:
    rows, context = 2, 9000
    queries = torch.zeros(rows, 4, WIDE, dtype=torch.bfloat16)
    cache = torch.zeros(64, 1, WIDE, dtype=torch.bfloat16)
    tables, numbers = torch.zeros(1, 200, dtype=torch.int32), torch.zeros(rows, dtype=torch.int64)
    given = {"page": 64, "scale": 1.0, "context": context}
    paged_attention_kernel.decode_attention(queries, cache, cache, tables, numbers, numbers, torch.empty_like(queries), **given)
    tiles = torch.zeros(1, 4, dtype=torch.int32)
    chunk_attention_kernel.chunk_attention(
        queries, cache, cache, tables, tiles, torch.empty_like(queries), first_row=0, longest=context, splits=1, **given
    )


def products() -> None:
    x, count, size = torch.zeros(256, 512, dtype=torch.bfloat16), weight_products.LARGE + 8, 512
    scales = torch.zeros(count, size // 128, dtype=x.dtype)
    weight = torch.zeros(count, size // 2, dtype=torch.uint8)
    shape = weight_products.choose_rows(len(x), count, 4)
    weight_rows_kernel.multiply_rows(x, weight, scales, scales, None, 4, 128, **shape)


if __name__ == "__main__":
    pretend_card(CAPABILITY)
    for module in (chunk_attention_kernel, paged_attention_kernel, weight_rows_kernel):
        module.launch = compile_for_target
    weight_rows_kernel.uses_kernels = lambda x: True
    attention()
    products()
