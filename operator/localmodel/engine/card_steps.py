"""Sizes of the steps that are CUDA graphs on a card. Pure.

Why it exists: a graph has a fixed number of rows, so a step is padded to the next size there is. Few sizes are few graphs, and
what a size costs decides how much of a prompt is computed beside sequences that decode. It knows neither torch nor works.
"""

from typing import NamedTuple

MOST_PROMPTS = 16
"""That a graph holds; a step with more is launched kernel by kernel."""
LEAST_ROOM = 64
"""Rows of prompts that are worth a size of their own."""
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


def graph_sizes(slots: int) -> list[int]:
    """Rows that graphs are made for which only decode."""
    steps = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, slots, 32)]
    return [size for size in steps if size < slots] + [slots]


def decoding_rows(decoding: int, slots: int) -> int:
    """Rows for `decoding` sequences beside which prompts are computed."""
    return next((size for size in (16, 64, 128, 256, 512) if decoding <= size < slots), slots)


def prompt_rooms(rows: int) -> list[int]:
    """Rows of prompts that a graph may have behind `rows` that decode, so that all together fill the tiles of a product."""
    largest = max(256, -(-(rows + 128) // 128) * 128)
    return [total - rows for total in (128, largest) if total - rows >= LEAST_ROOM]


def room_beside(decoding: int, slots: int) -> int:
    """Prompt tokens that a step computes beside `decoding` sequences."""
    return prompt_rooms(decoding_rows(decoding, slots))[-1]


def fit_step(decoding: int, prompts: list[int], longest: int, *, slots: int, context: int) -> StepShape | None:
    """The smallest graph for so many decoding sequences and prompts of so many tokens; None if there is none."""
    rows = decoding_rows(decoding, slots)
    room = next((room for room in prompt_rooms(rows) if room >= sum(prompts)), None)
    if room is None or len(prompts) > MOST_PROMPTS:
        return None
    return StepShape(rows, room, next((length for length in LENGTHS if longest <= length < context), context))
