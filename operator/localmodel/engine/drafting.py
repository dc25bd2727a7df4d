"""Guesses how one text goes on: as it did when its last few tokens came before. Pure: no torch, no clock.

Why it exists: summaries, extracts and edits repeat their prompt, and several tokens are verified in little more time than
one takes. It also keeps how often its guesses were right, also those that nobody verified: that costs nothing and says
when to begin. What a guess is worth is decided elsewhere (`speculation`).
"""

from array import array
from collections.abc import Sequence as Ids

MATCHED = 3
"""Tokens that must be the same. With 2 there are more guesses and fewer right ones."""
MOST_DRAFTED = 16
"""Tokens of one guess."""
KEPT_SHARE = 0.9
"""Of what was learned, after each further token: some ten tokens count."""
_BYTES = array("i").itemsize


class Drafter:
    """Follows the tokens of one sequence."""

    def __init__(self, prompt: Ids[int]) -> None:
        self._text = bytearray(array("i", prompt).tobytes())
        self._known = 0
        self._guess: list[int] = []
        self._running = False
        """The last token was guessed right."""
        self._after_hit = _Share()
        self._after_miss = _Share()

    def follow(self, answer: Ids[int]) -> None:
        """Takes in what is new of `answer`, which only ever grows, and how right the last guess was."""
        news = answer[self._known :]
        self._running &= bool(self._guess)
        for guessed, token in zip(self._guess, news, strict=False):
            (self._after_hit if self._running else self._after_miss).note(guessed == token)
            self._running = guessed == token
            if not self._running:
                break
        if news:
            self._guess = []
        self._text += array("i", news).tobytes()
        self._known = len(answer)

    def guess(self) -> list[int]:
        """The tokens that followed the latest place where the last MATCHED tokens stood before; [] if there is none."""
        self._guess = find_continuation(self._text, MATCHED, MOST_DRAFTED)
        return self._guess

    def chances(self, count: int) -> list[float]:
        """How likely the first 1, 2 ... `count` tokens of a guess are all right; it never rises."""
        chances = []
        chance = (self._after_hit if self._running else self._after_miss).value
        for _ in range(count):
            chances.append(chance)
            chance *= self._after_hit.value
        return chances


class _Share:
    """How often something was so lately; a half before anything is known."""

    def __init__(self) -> None:
        self._right = 0.5
        self._seen = 1.0

    @property
    def value(self) -> float:
        return self._right / self._seen

    def note(self, right: bool) -> None:
        self._right = self._right * KEPT_SHARE + right
        self._seen = self._seen * KEPT_SHARE + 1


def find_continuation(text: bytes | bytearray, matched: int, most: int) -> list[int]:
    """`text`: int32 tokens. A text that repeats itself up to its end goes on repeating."""
    size = matched * _BYTES
    if len(text) <= size:
        return []
    ending = bytes(text[-size:])
    at = text.rfind(ending, 0, len(text) - 1)
    while at >= 0 and at % _BYTES:  # across the borders of tokens
        at = text.rfind(ending, 0, at + size - 1)
    if at < 0:
        return []
    follows = array("i", bytes(text[at + size : at + size + most * _BYTES]))
    return [follows[number % len(follows)] for number in range(most)]
