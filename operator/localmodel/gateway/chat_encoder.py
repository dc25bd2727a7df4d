"""Token ids of a rendered chat, of which the tokenizer sees only what it has not seen before.

A chat comes again with each of its turns, longer by one. Special tokens cut a text into stretches that a tokenizer treats each
for itself, so a stretch has the same ids in every chat. It must give what the tokenizer gives for the whole text: where that is
not certain, it cuts nothing.
"""

import re
from array import array
from collections.abc import Iterable
from itertools import chain, pairwise
from threading import Lock

from tokenizers import AddedToken, Tokenizer

from localmodel.gateway.client_texts import BREAK
from localmodel.gateway.token_ids import token_ids

_MOST_CHARACTERS = 500_000
"""Of all remembered stretches; with its id, which has four bytes, a character takes two to eight."""
_LONGEST_STRETCH = 65_536
_OF_A_WORD = re.compile(r"[\w\s]")
_SAMPLES = ("", "a", " a", "a ", "\n", "\n\n", " \n a\n", "é日本 😀", "e\u0301", "12345 1,000", "don't <b>", "A  B\t\tC")


class ChatEncoder:
    """For two threads."""

    def __init__(self, tokenizer: Tokenizer, example: str) -> None:
        """`example`: some chat as the model's template writes it; the special tokens in it are where a text may be cut."""
        self._tokenizer = tokenizer
        self._lock = Lock()
        self._known: dict[str, array[int]] = {}
        """Whichever was not used for the longest time comes first."""
        self._size = 0
        borders = _borders(tokenizer, example)
        self._border = re.compile("|".join(map(re.escape, borders))) if borders else None
        if self._border is not None and not self._holds(borders):
            self._border = None

    @property
    def cuts(self) -> bool:
        return self._border is not None

    def encode(self, text: str) -> tuple[int, ...]:
        if self._border is None:
            return self._encode(text)
        ids: list[int] = []
        for stretch in self._stretches(text, self._border):
            ids += self._ids_of(stretch)
        return tuple(ids)

    def _stretches(self, text: str, border: "re.Pattern[str]") -> list[str]:
        """Each begins with a special token, but for the first: what is special about a text's beginning stays there."""
        starts = [0, *(match.start() for match in border.finditer(text)), len(text)]
        return [text[start:end] for start, end in pairwise(starts) if start < end]

    def _ids_of(self, stretch: str) -> Iterable[int]:
        with self._lock:
            ids = self._known.pop(stretch, None)
            if ids is not None:
                self._known[stretch] = ids
                return ids
        new = self._encode(stretch)
        if len(stretch) <= _LONGEST_STRETCH:
            with self._lock:
                self._remember(stretch, array("I", new))
        return new

    def _remember(self, stretch: str, ids: "array[int]") -> None:
        if self._known.pop(stretch, None) is None:
            self._size += len(stretch)
        self._known[stretch] = ids
        while self._size > _MOST_CHARACTERS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._size -= len(oldest)

    def _encode(self, text: str) -> tuple[int, ...]:
        if BREAK in text:
            return tuple(chain.from_iterable(self._encode(part) for part in text.split(BREAK) if part))
        return token_ids(self._tokenizer, text, special_tokens=False)

    def _holds(self, borders: list[str]) -> bool:
        """Whether the parts are the whole, for texts on both sides of each border."""
        texts = [
            f"{before}{border}{after}{border}{before}"
            for border in borders
            for before, after in zip(_SAMPLES, reversed(_SAMPLES), strict=True)
        ]
        try:
            if any(self.encode(text) != self._encode(text) for text in texts):
                return False
        except Exception:  # the library raises bare Exception, such as for a character without a token
            return False
        self._known.clear()
        self._size = 0
        return True


def _borders(tokenizer: Tokenizer, example: str) -> list[str]:
    """The special tokens of the example that the tokenizer finds wherever their characters stand, whatever is around them."""
    added = list(tokenizer.get_added_tokens_decoder().values())
    return [token.content for token in added if token.content in example and _is_border(token, added)]


def _is_border(token: AddedToken, added: Iterable[AddedToken]) -> bool:
    if not token.special or token.normalized or token.single_word or token.lstrip or token.rstrip:
        return False
    if _OF_A_WORD.match(token.content):  # what stands before it may look whether a word goes on, or take blanks
        return False
    others = [other.content for other in added if other.content != token.content]
    return not any(token.content in other or _may_take_the_start(other, token.content) for other in others)


def _may_take_the_start(earlier: str, token: str) -> bool:
    """The end of one is the beginning of the other: where both could be read, the earlier wins."""
    return any(earlier.endswith(token[:length]) for length in range(1, min(len(earlier), len(token))))
