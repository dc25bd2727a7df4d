"""Sizes of the steps that are CUDA graphs on a card. Pure.

Why it exists: a graph has a fixed number of rows, so a step is padded to the next size there is. Few sizes are few graphs, and
what a size costs decides how much of a prompt is computed beside sequences that decode. It knows neither torch nor works.
"""

from typing import NamedTuple

MOST_PROMPTS = 16
"""That a graph holds; a step with more is launched kernel by kernel."""
ROOM = 128
"""Rows of prompts of the smaller graphs: what a tile of attention behind a long past holds."""
ALONE = (512, 1024)
"""Rows in all of graphs for prompts alone; more are many enough to be launched one by one meanwhile."""
LENGTHS = (2048, 8191)
"""Positions that a graph's prompts see at most; then the whole context. How keys are cut is decided for these."""


class StepShape(NamedTuple):
    """Of a graph with prompts."""

    decoding: int
    """Rows that decode one token each."""
    prompts: int
    """Rows of prompts behind them."""
    longest: int
    """Positions that the last of them may see."""
    several: bool = True
    """Whether there may be more than one, up to MOST_PROMPTS. Tiles for those that are not there cost time."""


def graph_sizes(slots: int) -> list[int]:
    """Rows that graphs are made for which only decode."""
    steps = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, slots, 32)]
    return [size for size in steps if size < slots] + [slots]


def decoding_rows(decoding: int, slots: int) -> int:
    """Rows for `decoding` sequences beside which prompts are computed."""
    return next((size for size in (16, 64, 128, 256, 512) if decoding <= size < slots), slots)


def prompt_rooms(rows: int) -> list[int]:
    """Rows of prompts that a graph may have behind `rows` that decode; up to 256 in all are the rows that a product does best."""
    return [ROOM, 256 - rows if rows <= 64 else 256]


def room_beside(decoding: int, start: int, slots: int) -> int:
    """Prompt tokens that a step computes beside `decoding` sequences, the first of them at position `start`.

    So many that a step takes at most 1.75 times as long as without (tests/bench/steps_cuda.py): fewer behind a long past.
    """
    large = prompt_rooms(decoding_rows(decoding, slots))[-1]
    return large if start + large <= LENGTHS[-1] else ROOM


def fit_step(decoding: int, prompts: list[int], longest: int, *, slots: int, context: int) -> StepShape | None:
    """The smallest graph for so many decoding sequences and prompts of so many tokens; None if there is none."""
    rows = decoding_rows(decoding, slots)
    rooms = prompt_rooms(rows) + ([] if decoding else [total - rows for total in ALONE])
    room = next((room for room in rooms if room >= sum(prompts)), None)
    if room is None or len(prompts) > MOST_PROMPTS:
        return None
    length = next((length for length in LENGTHS if longest <= length < context), context)
    return StepShape(rows, room, length, several=len(prompts) > 1)


def largest_steps(slots: int, context: int) -> list[StepShape]:
    """Those that take most memory, the largest first."""
    rows = decoding_rows(0, slots)
    length = next((length for length in LENGTHS if length < context), context)
    alone = StepShape(rows, ALONE[-1] - rows, length, several=False)
    beside = StepShape(slots, prompt_rooms(slots)[-1], context)
    return sorted([alone, beside], key=lambda shape: -(shape.decoding + shape.prompts))
