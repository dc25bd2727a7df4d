"""Turns token ids into text piece by piece.

Why it exists: a token may hold part of a character, and decoders look at neighbours (leading spaces, byte runs). The
pieces put together equal the decoding of the whole answer, and no piece ends within a character. It knows nothing of
stop strings, and runs off the engine's thread.
"""

from collections.abc import Sequence as Ids

from tokenizers import Tokenizer

from localmodel.engine.plain_tokens import REPLACEMENT

LONGEST_WINDOW = 64
"""Only an endless run of invisible tokens or broken bytes makes the window so long."""
LONGEST_INCOMPLETE = 3
"""A UTF-8 character lacks its last byte at worst after three."""
CONTEXT_TOKENS = 5
"""Tokens of the prompt that the first ones of the answer are decoded with, so that a leading space survives."""


class Detokenizer:
    def __init__(self, tokenizer: Tokenizer, prompt: Ids[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt[-CONTEXT_TOKENS:])
        """Tokens whose text is out and give context, then those whose text is not all out."""
        if self._decode().endswith(REPLACEMENT):
            self._window = []
        self._context = len(self._window)
        self._out = len(self._decode())
        """Characters of the window's text that are out."""
        self._holding = False
        self._visible = self._out > 0
        """All text so far is out, and there is some: a plain token's text is what it always is."""
        self._last: int | None = None
        """A plain token that is to become the window."""

    @property
    def holding(self) -> bool:
        """Whether the last tokens made text that is not certain yet."""
        return self._holding

    def feed_plain(self, token: int) -> bool:
        """Takes in a token of PlainTokens, whose text is then what became certain; False if it must be fed instead."""
        if self._visible:
            self._last = token
            return True
        return False

    def feed(self, ids: Ids[int]) -> str:
        """The text that became certain with `ids`."""
        self._open_window()
        self._window += ids
        broken = len(self._window) > LONGEST_WINDOW
        text = self._decode()
        certain = _certain_length(text, broken=broken)
        piece = text[self._out : certain]
        self._out = max(self._out, certain)
        self._holding = self._out < len(text)
        self._visible = bool(piece) and certain == len(text) and not broken
        if broken:
            self._window = self._window[-CONTEXT_TOKENS:]
            self._context, self._out = 0, _certain_length(self._decode(), broken=True)
        elif self._visible:
            self._window = self._window[self._context :]
            self._context, self._out = len(self._window), len(self._decode())
        return piece

    def flush(self) -> str:
        """What is left at the end; an incomplete character comes out as U+FFFD."""
        self._open_window()
        piece = self._decode()[self._out :]
        self._out += len(piece)
        self._holding = False
        return piece

    def _open_window(self) -> None:
        if self._last is not None:
            self._window, self._last = [self._last], None
            self._context, self._out = 1, len(self._decode())

    def _decode(self) -> str:
        return self._tokenizer.decode(self._window, skip_special_tokens=True) if self._window else ""


def _certain_length(text: str, *, broken: bool) -> int:
    """Characters that later tokens can't change: a byte-fallback decoder shows a whole run of bytes as U+FFFD until its
    last character is complete, so all of them wait; in a run too long to be text, only what a character may lack."""
    if not text.endswith(REPLACEMENT):
        return len(text)
    tail = len(text) - len(text.rstrip(REPLACEMENT))
    return len(text) - (min(tail, LONGEST_INCOMPLETE) if broken else tail)
