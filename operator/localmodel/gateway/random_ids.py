"""Random identifiers in hexadecimal digits, from the system's own source, which is asked for many at once: it is slow to ask."""

import os

_DIGITS = 8192


class _Pool:
    """For one thread."""

    def __init__(self) -> None:
        self._text = ""
        self._used = 0

    def take(self, digits: int) -> str:
        start = self._used
        if start + digits > len(self._text):
            self._text, start = os.urandom(_DIGITS // 2).hex(), 0
        self._used = start + digits
        return self._text[start : self._used]


_pool = _Pool()


def random_id(digits: int) -> str:
    """Never all zeros."""
    while not (text := _pool.take(digits)).strip("0"):
        pass
    return text
