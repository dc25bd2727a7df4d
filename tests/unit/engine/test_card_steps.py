"""Sizes of a card's steps, and the numbers that a graph with prompts reads."""

import numpy as np
import pytest

from localmodel.engine.card_inputs import KINDS, NOWHERE, TILE_NUMBERS, step_numbers, step_sizes
from localmodel.engine.card_steps import (
    MOST_PROMPTS,
    ROOM,
    StepShape,
    fit_step,
    graph_sizes,
    prompt_rooms,
    room_beside,
)
from localmodel.engine.sequence import Sequence, Work


def test_sizes_of_graphs_grow_by_steps_and_end_at_the_slots():
    assert graph_sizes(1) == [1]
    assert graph_sizes(16) == [1, 2, 4, 8, 16]
    assert graph_sizes(100)[-4:] == [64, 80, 96, 100]


@pytest.mark.parametrize("slots", [1, 4, 16, 32, 100, 256, 1024])
@pytest.mark.parametrize("start", [0, 7_950, 8_191, 20_000])
def test_what_the_scheduler_is_told_fits_into_a_graph(slots, start):
    context = 32768
    for decoding in range(1, slots + 1):
        room = room_beside(decoding, start, slots)
        assert room >= ROOM
        shape = fit_step(decoding, [room], start + room, slots=slots, context=context)
        assert shape.decoding >= decoding and shape.prompts == room
        assert room == ROOM or shape.longest < context, "behind a long past a step would take too long"
        largest = prompt_rooms(shape.decoding)[-1]
        assert fit_step(decoding, [largest + 1], start + largest + 1, slots=slots, context=context) is None


def test_a_step_takes_the_smallest_graph_that_holds_it():
    assert prompt_rooms(16) == [128, 240] and prompt_rooms(64) == [128, 192] and prompt_rooms(100) == [128, 256]
    assert fit_step(3, [50, 78], 1000, slots=64, context=32768) == StepShape(16, 128, 2048)
    assert fit_step(3, [50, 79], 2048, slots=64, context=32768) == StepShape(16, 240, 2048)
    assert fit_step(17, [9], 2049, slots=64, context=32768) == StepShape(64, 128, 8191, several=False)
    assert fit_step(0, [9], 8192, slots=8, context=32768) == StepShape(8, 128, 32768, several=False)
    assert fit_step(1, [9], 9, slots=8, context=1024) == StepShape(8, 128, 1024, several=False)
    assert fit_step(0, [600], 9, slots=8, context=1024) == StepShape(8, 1016, 1024, several=False)
    assert fit_step(0, [1017], 9, slots=8, context=1024) is None
    assert fit_step(1, [249], 9, slots=8, context=1024) is None, "a chunk that others wait for"
    assert fit_step(0, [1] * MOST_PROMPTS, 9, slots=8, context=1024) is not None
    assert fit_step(0, [1] * (MOST_PROMPTS + 1), 9, slots=8, context=1024) is None


def work(prompt, start, count, slot, answer=(), samples=True):
    sequence = Sequence(slot, prompt, 9, answer=list(answer))
    return Work(sequence, slot, start, count, samples, 0, [10 * slot + number for number in range(9)])


def test_numbers_of_a_step_name_every_row_and_send_padding_nowhere():
    pending = work((5, 6), 3, 1, 2, answer=[7])
    decoding = [work((5, 6), 2, 1, 1, answer=[8]), pending]
    prompts = [work(tuple(range(20, 60)), 3, 5, 3, samples=False), work((40, 41, 42), 0, 3, 4)]
    shape = StepShape(4, 12, 64)
    numbers = step_numbers(decoding, prompts, shape, 8, 4, {pending.sequence: 6}, 4)
    rows, tiles, choices = step_sizes(shape, 8, 4)
    assert (rows, tiles, choices) == (16, 3 + MOST_PROMPTS - 1, 8)
    tokens, sources, positions, cache_rows, slots = numbers[: KINDS * rows].reshape(KINDS, rows)
    assert tokens[:12].tolist() == [8, 0, 0, 0, 23, 24, 25, 26, 27, 40, 41, 42]
    assert sources.tolist() == [NOWHERE, 6, *[NOWHERE] * 14]
    assert positions[:12].tolist() == [2, 3, 0, 0, 3, 4, 5, 6, 7, 0, 1, 2]
    assert cache_rows.tolist() == [42, 83, -1, -1, 123, 124, 125, 126, 127, 160, 161, 162, *[NOWHERE] * 4]
    assert slots[:12].tolist() == [1, 2, 0, 0, 3, 3, 3, 3, 3, 4, 4, 4]
    cut = numbers[KINDS * rows :][: TILE_NUMBERS * tiles].reshape(tiles, TILE_NUMBERS)
    assert cut[:3].tolist() == [[8, 1, 7, 3], [4, 4, 3, 3], [9, 3, 0, 4]] and not np.any(cut[3:])
    assert numbers[-choices:].tolist() == [0, 1, 11, 0, 0, 0, 0, 0]
