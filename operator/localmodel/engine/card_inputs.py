"""What a step on a card is told, as plain numbers: one row of each kind per token, and changes of the block tables.

Why it exists: it is made on the host while the card computes the step before, so it must be quick, touch no device and
wait for nothing. A token that the step before chooses is named by its row there.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from localmodel.engine.card_steps import MOST_PROMPTS, StepShape
from localmodel.engine.sequence import Sequence, Work

Numbers = NDArray[np.int64]
TOKEN, SOURCE, POSITION, CACHE_ROW, SLOT = range(5)
KINDS = 5
TILE_NUMBERS = 4
NOWHERE = -1


def decode_rows(works: list[Work], rows: int, row_of: Mapping[Sequence, int], block_size: int) -> Numbers:
    """[KINDS, rows] for works of one token each and their drafts, padded with rows that go nowhere.

    TOKEN; SOURCE, the row of the step before that chooses it, or NOWHERE; POSITION; CACHE_ROW; SLOT.
    """
    numbers = np.zeros((KINDS, rows), dtype=np.int64)
    numbers[SOURCE] = numbers[CACHE_ROW] = NOWHERE
    columns = []
    for work in works:
        sequence, slot, start = work.sequence, work.slot, work.start
        answered = start - len(sequence.prompt)
        known = answered < len(sequence.answer)
        columns.append(
            (
                sequence.answer[answered] if known else 0,
                NOWHERE if known else row_of[sequence],
                start,
                work.blocks[start // block_size] * block_size + start % block_size,
                slot,
            )
        )
        for place, token in enumerate(work.draft, start + 1):
            columns.append((token, NOWHERE, place, work.blocks[place // block_size] * block_size + place % block_size, slot))
    if columns:
        numbers[:, : len(columns)] = np.array(columns, dtype=np.int64).T
    return numbers


def choosing_rows(works: list[Work]) -> list[int]:
    """Those of `decode_rows` after which a token is chosen."""
    wanted: list[int] = []
    row = 0
    for work in works:
        if work.samples:
            wanted += range(row, row + work.count)
        row += work.count
    return wanted


def prompt_rows(works: list[Work], block_size: int) -> Numbers:
    """[KINDS, tokens] of chunks, one after another."""
    parts = []
    for work in works:
        start, count = work.start, work.count
        positions = np.arange(start, start + count)
        part = np.empty((KINDS, count), dtype=np.int64)
        part[TOKEN] = work.sequence.tokens(start, count)
        part[SOURCE] = NOWHERE
        part[POSITION] = positions
        part[CACHE_ROW] = np.array(work.blocks, dtype=np.int64)[positions // block_size] * block_size + positions % block_size
        part[SLOT] = work.slot
        parts.append(part)
    return np.concatenate(parts, axis=1) if parts else np.empty((KINDS, 0), dtype=np.int64)


def prompt_tiles(works: list[Work], first_row: int, tile_rows: int) -> NDArray[np.int32]:
    """[T, 4] for `chunk_attention`: first row, rows, position, slot; the longest past first."""
    tiles = []
    row = first_row
    for work in works:
        for at in range(0, work.count, tile_rows):
            tiles.append((row + at, min(tile_rows, work.count - at), work.start + at, work.slot))
        row += work.count
    tiles.sort(key=lambda tile: -tile[2])
    return np.array(tiles, dtype=np.int32)


def step_sizes(shape: StepShape, slots: int, tile: int) -> tuple[int, int, int]:
    """(rows, tiles of `tile` rows, rows that get logits) of a graph with prompts."""
    most = MOST_PROMPTS if shape.several else 1
    return shape.decoding + shape.prompts, -(-shape.prompts // tile) + most - 1, min(slots, shape.decoding + most)


def step_numbers(
    decoding: list[Work], prompts: list[Work], shape: StepShape, slots: int, tile: int, row_of: Mapping[Sequence, int],
    block_size: int,
) -> Numbers:  # fmt: skip
    """All that a graph of `shape` reads, flat: rows [KINDS, rows], tiles [tiles, TILE_NUMBERS], rows that get logits.

    Padding goes nowhere: tiles of no rows, and row 0 for logits that nobody takes.
    """
    rows, tiles, choices = step_sizes(shape, slots, tile)
    numbers = np.zeros(KINDS * rows + TILE_NUMBERS * tiles + choices, dtype=np.int64)
    table = numbers[: KINDS * rows].reshape(KINDS, rows)
    table[SOURCE] = table[CACHE_ROW] = NOWHERE
    table[:, : shape.decoding] = decode_rows(decoding, shape.decoding, row_of, block_size)
    chunks = prompt_rows(prompts, block_size)
    table[:, shape.decoding : shape.decoding + chunks.shape[1]] = chunks
    cut = prompt_tiles(prompts, shape.decoding, tile)
    numbers[KINDS * rows : KINDS * rows + cut.size] = cut.reshape(-1)
    wanted = choosing_rows(decoding)
    row = shape.decoding
    for work in prompts:
        row += work.count
        if work.samples:
            wanted.append(row - 1)
    numbers[KINDS * rows + TILE_NUMBERS * tiles :][: len(wanted)] = wanted
    return numbers


class TableKeeper:
    """Knows what the block tables on the card hold, and says what to change."""

    def __init__(self, slots: int, pages: int) -> None:
        self._pages = pages
        self._held: list[tuple[Sequence | None, int, int]] = [(None, 0, 0)] * slots

    def changes(self, works: Iterable[Work]) -> tuple[list[int], list[int]]:
        """(places in the flat tables, blocks) so that every block of `works` is there."""
        places: list[int] = []
        blocks: list[int] = []
        for work in works:
            sequence = work.sequence
            owner, life, known = self._held[work.slot]
            if owner is not sequence or life != work.life:
                known = 0
            count = len(work.blocks)
            if known < count:
                base = work.slot * self._pages
                places += range(base + known, base + count)
                blocks += work.blocks[known:]
            self._held[work.slot] = (sequence, work.life, count)
        return places, blocks
