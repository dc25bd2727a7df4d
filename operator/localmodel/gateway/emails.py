"""Where a text holds e-mail addresses.

Pure. An ASCII text is looked at around each `@`. In others only the words with an `@` or a `%40` are looked at, because no
address has a blank in it: short plain ones by Python's own expressions, which cost nothing to call, all others by RE2. All
find the same.
"""

import re
import string
from collections.abc import Callable, Iterator
from itertools import pairwise

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
_LOCAL = f"{string.ascii_letters}{string.digits}._%+'-"
_DOMAIN = re.compile(r"(?:[A-Za-z0-9\-]++\.)+[A-Za-z]{2,}")
_BLANK = re.compile(r"[\x00-\x20]")


class Emails:
    def __init__(self) -> None:
        self._pattern = compile_pattern(EMAIL)

    def find(self, text: str, check: Callable[[], None]) -> list[tuple[int, int]]:
        """Start and end of each. `check` is called once per word and may raise, to end a search that takes too long."""
        percent = text.find("%40")
        if percent < 0 and text.isascii():
            return _find_in_ascii(text, check)
        found: list[tuple[int, int]] = []
        end = 0
        at = text.find("@")
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


def _find_in_ascii(text: str, check: Callable[[], None]) -> list[tuple[int, int]]:
    """Of a text without `%40`; its time is linear."""
    found: list[tuple[int, int]] = []
    at = end = 0
    for left, right in pairwise(text.split("@")):
        check()
        at += len(left)
        start = max(end, at - len(left) + len(left.rstrip(_LOCAL)))
        if start < at and (domain := _DOMAIN.match(right)):
            end = at + 1 + domain.end()
            found.append((start, end))
        at += 1
    return found
