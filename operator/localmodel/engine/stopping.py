"""Cuts an answer before the stop string that is complete first, wherever the pieces of text are cut.

Why it exists: a stop string may span tokens, so the longest ending that could still become one is held back. It knows
nothing of tokens.
"""

from collections.abc import Sequence


class StopCutter:
    def __init__(self, stops: Sequence[str]) -> None:
        """`stops`: non-empty strings."""
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """The text that is certainly before any stop string. Empty after `stopped`."""
        if self.stopped:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        matches = [(found + len(stop), found) for stop in self._stops if (found := text.find(stop)) >= 0]
        if matches:
            self.stopped, self._held = True, ""
            return text[: min(matches)[1]]
        keep = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest ending of `text` that begins `stop`."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
