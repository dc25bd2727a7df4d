"""Turns token ids into text piece by piece.

Why it exists: a token may hold part of a character, and decoders look at neighbours (leading spaces, byte runs). The
pieces put together equal the decoding of the whole answer, and no piece ends within a character. One thing differs: a
byte-fallback decoder gives up a whole run of bytes for one that is broken, also the characters before it. Those are out as soon
as they are complete, and stay; only what follows is given up. It knows nothing of stop strings, and runs off the engine's thread.
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
        while (text := self._decode()).endswith(REPLACEMENT):
            self._window.pop(0)
        self._context = len(self._window)
        """Tokens whose text is out."""
        self._shown = text
        """The window's text that is out."""
        self._holding = False
        self._visible = bool(text)
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
        text = self._decode_on()
        out = len(self._shown)
        certain = max(out, _certain_length(text, broken=broken))
        piece = text[out:certain]
        self._shown = text[:certain]
        self._holding = certain < len(text)
        self._visible = bool(piece) and certain == len(text) and not broken
        if broken:
            self._window = self._window[-CONTEXT_TOKENS:]
            text = self._decode()
            self._shown = text[: _certain_length(text, broken=True)]
            self._context = len(self._shown)  # a broken byte is a token and a character
        elif self._visible:
            self._shorten(self._context)
        return piece

    def flush(self) -> str:
        """What is left at the end; an incomplete character comes out as U+FFFD."""
        self._open_window()
        text = self._decode_on()
        piece = text[len(self._shown) :]
        self._shown = text
        self._holding = False
        return piece

    def _open_window(self) -> None:
        if self._last is not None:
            self._window.append(self._last)
            self._last = None
            self._shorten(len(self._window) - 1)

    def _shorten(self, start: int) -> None:
        """To the tokens from `start` on, of a window whose text is all out; or to more, so that they have a text: a space at the
        beginning has none, nor has the end of a character."""
        window, text = self._window, ""
        for begin in range(start, -1, -1):
            self._window = window[begin:]
            text = self._decode()
            if text and REPLACEMENT not in text:
                break
        self._context, self._shown = len(self._window), text

    def _decode_on(self) -> str:
        """The window's text, which begins with what is out; without its tokens, if others behind them would change that."""
        text = self._decode()
        if not text.startswith(self._shown):
            self._window = self._window[self._context :]
            self._context, self._shown = 0, ""
            text = self._decode()
        return text

    def _decode(self) -> str:
        return self._tokenizer.decode(self._window, skip_special_tokens=True) if self._window else ""


def _certain_length(text: str, *, broken: bool) -> int:
    """Characters that later tokens can't change: a byte-fallback decoder shows a whole run of bytes as U+FFFD until its
    last character is complete, so all of them wait; in a run too long to be text, only what a character may lack."""
    if not text.endswith(REPLACEMENT):
        return len(text)
    tail = len(text) - len(text.rstrip(REPLACEMENT))
    return len(text) - (min(tail, LONGEST_INCOMPLETE) if broken else tail)
