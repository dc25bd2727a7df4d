"""Where a text holds e-mail addresses.

Pure. An address has no blank in it, so only the words with an `@` or a `%40` are looked at: short plain ones by Python's own
expressions, which cost nothing to call, all others by RE2, whose time is linear. Both find the same.
"""

import re
from collections.abc import Callable, Iterator

from localmodel.gateway.patterns import compile_pattern

_LETTERS = r"\p{Latin}\p{Greek}\p{Cyrillic}0-9"
EMAIL = (
    rf"[{_LETTERS}._%+'\-]+(?:@|%40)"
    rf"(?:(?:[{_LETTERS}\-]+\.)+[\p{{Latin}}\p{{Greek}}\p{{Cyrillic}}]{{2,}}|(?:[\pL\pN\-]+\.)+\pL{{2,}})"
)
"""RE2."""
_PLAIN_EMAIL = re.compile(r"[A-Za-z0-9._%+'\-]+(?:@|%40)(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,}")
"""The same where all is ASCII. Its time is quadratic."""
_LONGEST_PLAIN = 128
_BLANK = re.compile(r"[\x00-\x20]")


class Emails:
    def __init__(self) -> None:
        self._pattern = compile_pattern(EMAIL)

    def find(self, text: str, check: Callable[[], None]) -> list[tuple[int, int]]:
        """Start and end of each. `check` is called once per word and may raise, to end a search that takes too long."""
        found: list[tuple[int, int]] = []
        end = 0
        at, percent = text.find("@"), text.find("%40")
        while at >= 0 or percent >= 0:
            check()
            place = at if percent < 0 or 0 <= at < percent else percent
            start = max(end, text.rfind(" ", end, place) + 1, text.rfind("\n", end, place) + 1)
            blank = _BLANK.search(text, place)
            end = blank.start() if blank is not None else len(text)
            if end - start <= _LONGEST_PLAIN and (word := text[start:end]).isascii():
                found += [(start + match.start(), start + match.end()) for match in _PLAIN_EMAIL.finditer(word)]
            else:
                found += [(start + first, start + last) for first, last in self._find_long(text[start:end], check)]
            at = text.find("@", end) if at >= 0 else -1
            percent = text.find("%40", end) if percent >= 0 else -1
        return found

    def _find_long(self, word: str, check: Callable[[], None]) -> Iterator[tuple[int, int]]:
        for found in self._pattern.finditer(word):
            check()
            yield found.span()
