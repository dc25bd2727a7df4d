"""Cutting a text where its sentences end, by tokens: pieces of a document that is too long, or its beginning and end.

Pure. It is told where each token starts and never sees a tokenizer. A character is never split, nothing is left out between
two segments, and the end of one comes again at the beginning of the next, so that no thought is cut in two.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

_CLOSING = r"[\"'”’」』）》】)\]]*"
_STRONG = re.compile(rf"[。！？；…]+{_CLOSING}|[.!?;]+{_CLOSING}(?=\s|$)|\n+")
"""Ends of sentences, Chinese and Western, and of lines."""
_WEAK = re.compile(r"[，、：,:]+|\s+")
GAP = "\n[…]\n"
"""Stands for what was left out of the middle."""


class Span(NamedTuple):
    start: int
    end: int
    """Characters, the end not included."""


class _Ruler:
    """Characters and tokens of one text. A token's start is that of the character that it begins in."""

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        self._starts = starts
        self.length = len(text)
        self.strong = [match.end() for match in _STRONG.finditer(text)]
        self.weak = [match.end() for match in _WEAK.finditer(text)]

    def tokens(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def reach(self, start: int, tokens: int) -> int:
        """The farthest end with at most so many tokens from `start`; at least one character."""
        index = bisect_left(self._starts, start) + tokens
        end = self.length if index >= len(self._starts) else self._starts[index]
        return max(end, start + 1)

    def back(self, end: int, tokens: int) -> int:
        """The earliest start with at most so many tokens up to `end`."""
        index = bisect_left(self._starts, end) - tokens
        if index <= 0:
            return 0
        start = self._starts[index]
        return start if self.tokens(start, end) <= tokens else start + 1

    def last_border(self, low: int, high: int) -> int:
        """The last good place to cut, low < place <= high; `high` itself if there is none."""
        for borders in (self.strong, self.weak):
            index = bisect_right(borders, high) - 1
            if index >= 0 and borders[index] > low:
                return borders[index]
        return high

    def first_border(self, low: int, high: int) -> int | None:
        """The first place to begin, low <= place < high, or None."""
        for borders in (self.strong, self.weak):
            index = bisect_left(borders, low)
            if index < len(borders) and borders[index] < high:
                return borders[index]
        return None


def split(text: str, starts: Sequence[int], size: int, overlap: int) -> list[Span]:
    """Segments of at most `size` tokens (but one character at least), in order; `overlap` tokens at most come twice.

    `starts`: for each token the index of the character that it begins in, ascending. 0 <= overlap <= size / 4.
    """
    ruler = _Ruler(text, starts)
    spans: list[Span] = []
    start, done = 0, 0
    while done < ruler.length:
        end = ruler.reach(start, size)
        if end < ruler.length:
            half = ruler.reach(start, size // 2)
            end = ruler.last_border(max(done, min(half, end - 1)), end)
        spans.append(Span(start, end))
        done = end
        begin = ruler.first_border(ruler.back(end, overlap), end) if overlap else None
        start = begin if begin is not None and begin > start else end
    return spans


def keep_ends(text: str, starts: Sequence[int], keep: int) -> str:
    """Beginning and end, `keep` tokens together and half of them each, with GAP for what is left out between them."""
    ruler = _Ruler(text, starts)
    if ruler.tokens(0, ruler.length) <= keep:
        return text
    reach = ruler.reach(0, keep // 2)
    head = ruler.last_border(reach * 3 // 4, reach)
    earliest = max(head, ruler.back(ruler.length, keep - keep // 2))
    latest = earliest + (ruler.length - earliest) // 4
    border = ruler.first_border(earliest, latest)
    return text[:head].rstrip() + GAP + text[earliest if border is None else border :].lstrip()
