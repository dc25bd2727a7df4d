"""How a document that is too long is read: in which segments, with how long answers, and how these are joined.

Pure arithmetic over numbers of tokens. It must come to an end: whatever the answers, each round of joining at least halves them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_SEGMENTS = 256
LABEL = 32
"""Tokens around each answer when it is read again, at most."""
LONGEST_PART = 512
_SHORTEST_PART = 16
_SMALLEST_SEGMENT = 64
_SAFETY = 0.95
"""A text is a few tokens longer or shorter alone than inside a longer one."""


@dataclass(frozen=True)
class Sizes:
    """In tokens."""

    segment: int
    overlap: int
    part: int
    """Longest answer for one segment, and of all joining calls but the last."""
    join: int
    """Answers, labels included, that one joining call can read."""
    part_frame: int
    """Of the chat around a segment."""
    join_frame: int
    answer: int
    """Longest answer of the last call."""


def fit_sizes(window: int, part_frame: int, join_frame: int, asked: int | None) -> Sizes | None:
    """None if what comes with each part leaves too little room. `asked`: the client's max_tokens."""
    answer = asked or window // 4
    join = window - join_frame - answer
    part = min(LONGEST_PART, window // 8, asked or LONGEST_PART, join // 2 - LABEL)
    segment = int((window - part_frame - part) * _SAFETY)
    if part < min(_SHORTEST_PART, asked or _SHORTEST_PART) or segment < _SMALLEST_SEGMENT:
        return None
    return Sizes(segment, segment // 10, part, join, part_frame, join_frame, answer)


def group(lengths: Sequence[int], room: int) -> list[slice]:
    """Neighbours that are joined by one call each: as many as fit, at least two where there are two."""
    groups: list[slice] = []
    start, used = 0, 0
    for index, length in enumerate(lengths):
        if index - start >= 2 and used + length + LABEL > room:
            groups.append(slice(start, index))
            start, used = index, 0
        used += length + LABEL
    return [*groups, slice(start, len(lengths))] if lengths else []


def longest_answer(sizes: Sizes) -> int:
    """Of a part, so that two fit into one joining call."""
    return sizes.join // 2 - LABEL


def most_tokens(sizes: Sizes, segments: int, choices: int) -> int:
    """All calls together, prompts and answers, if every answer is as long as it may be."""
    total = segments * (sizes.part_frame + sizes.segment + sizes.part)
    count = segments
    while len(groups := group([sizes.part] * count, sizes.join)) > 1:
        total += count * (sizes.part + LABEL) + len(groups) * (sizes.join_frame + sizes.part)
        count = len(groups)
    return total + sizes.join_frame + count * (sizes.part + LABEL) + choices * sizes.answer
