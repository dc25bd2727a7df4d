"""What a process that computes on a CPU takes of its memory beside what a card would take of its own. Pure arithmetic.

Why it exists: there tokenizers, the rows' masks and a matrix that is being reordered share one limit with weights and cache.
What the code of products takes is told by `row_counts`.
"""

from localmodel.engine.network_config import NetworkConfig

TOKENIZER_SHARE = 22
"""Times its file: a tokenizer 9, and once JSON schemas were asked for, llguidance's tables 13 (SmolLM2's 3.5 MB)."""
PIECES_BYTES = 96 * 2**20
"""What allocators and libraries keep in pieces where no code of products is planned for. Of 65 random networks most took a few
MiB beside all else that is predicted, one took 50 (`tests/bench/admitted.py`)."""
MASK_BYTES = 2
"""For each token of a chunk and each of its past, as truth values: all, and those within a window; besides, as numbers."""


def host_bytes(config: NetworkConfig, *, context: int, chunk: int, element_bytes: int, tokenizer_file_bytes: int) -> int:
    """`chunk`: prompt tokens of a step."""
    masks = min(chunk, context) * context * (MASK_BYTES + element_bytes)
    return masks + TOKENIZER_SHARE * tokenizer_file_bytes
