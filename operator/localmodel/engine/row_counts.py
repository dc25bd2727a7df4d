"""How many rows a step on a processor computes: one of few counts. Pure arithmetic.

Why it exists: oneDNN makes code for every shape of matrix and count of rows, and keeps it to the end of the process: 0.7 MB
each, also beyond its cache's capacity, which holds only half of it (torch 2.15, EPYC). Steps have any count of rows, so rare
ones would take memory for hours. Rounded up, there are few counts, and the code of all can be planned for. A product takes
time as it has rows, so they are not rounded up by much.
"""

STEPS = ((16, 1), (32, 2), (144, 4))
"""Up to so many rows, counts are multiples of the second number."""
COARSE_ROWS = 32
"""Beyond, of this: prompts while nobody decodes."""
CODE_BYTES = 700 * 2**10
"""Of one matrix and one count; 684 KiB were measured, whatever the shape, in bfloat16 and float32."""
LAYER_MATRICES = 4
"""Of different shapes; all layers have the same."""


def round_up(rows: int, multiple: int = 1) -> int:
    """At least `rows`, which may be 0; the count is a multiple of `multiple`, which is 1, 2 or 4."""
    step = next((step for most, step in STEPS if rows <= most), COARSE_ROWS)
    return rows + -rows % max(step, multiple)


def code_bytes(rows: int, chosen: int) -> int:
    """Of all products of steps with at most `rows` rows, of which at most `chosen` get logits."""
    counts = [len({round_up(count) for count in range(1, most + 1)}) for most in (rows, chosen)]
    return (LAYER_MATRICES * counts[0] + counts[1]) * CODE_BYTES
