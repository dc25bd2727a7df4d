"""Keeps each token's log-probability until the text that the token made is out.

Why it exists: text is held back (half a character, the beginning of a stop string) or cut off, and what describes it must
share its fate. It counts characters and knows nothing of tokens' contents.
"""

from collections import deque
from typing import NamedTuple

from localmodel.api.events import TokenLogprob


class _Waiting(NamedTuple):
    logprob: TokenLogprob
    start: int
    end: int | None
    """None: a later token decides."""


class LogprobQueue:
    """Places are counted in characters of the answer as the tokens made it, before stop strings are cut."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def add(self, logprob: TokenLogprob, start: int) -> None:
        """A token whose text begins at `start`."""
        self._waiting.append(_Waiting(logprob, start, None))

    def settle(self, end: int) -> None:
        """All tokens so far have made their text; it ends at `end`."""
        if self._waiting:
            self._waiting = deque(entry if entry.end is not None else entry._replace(end=end) for entry in self._waiting)

    def take(self, out: int) -> tuple[TokenLogprob, ...]:
        """Those whose text is out up to its end, when `out` characters are."""
        if not self._waiting:
            return ()
        taken = []
        while self._waiting and (end := self._waiting[0].end) is not None and end <= out:
            taken.append(self._waiting.popleft().logprob)
        return tuple(taken)

    def cut(self, out: int) -> tuple[TokenLogprob, ...]:
        """Those of which some text is out, after everything behind `out` was cut off; the others are dropped."""
        kept = tuple(entry.logprob for entry in self._waiting if entry.start < out)
        self._waiting.clear()
        return kept
