"""Writes digits, letters and separators of every script's making as plain ASCII, one character for one character.

`１３８`, `1 3 8` with a no-break space, and `138` must look alike to whoever searches for numbers, at the same places. Only for
searching: what is written down is the original.
"""

import re
import unicodedata
from functools import cache
from itertools import chain

_SLICE = 65536
_RANGES = (range(0x80, 0xD800), range(0xE000, 0x10000), range(0x1D400, 0x1D800))
"""The basic plane, and the mathematical letters and digits."""
_SPACES = {0xA0, 0xAD, 0x1680, *range(0x2000, 0x200E), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF}
"""Of any width, none included."""
_HYPHENS = {0xB7, *range(0x2010, 0x2016), 0x2043, 0x2212, 0x30FB, 0xFE58, 0xFE63, 0xFF0D}
_WANTED = frozenset("0123456789+-.()@ ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_%")


def to_plain(text: str) -> str:
    """The same length; the same object if there is nothing to do. In slices, so that other threads get their turn."""
    if text.isascii():
        return text
    table, odd = _tables()
    if len(text) <= _SLICE:
        return odd.sub(lambda match: table.get(match[0], match[0]), text) if odd.search(text) else text
    return "".join([to_plain(text[at : at + _SLICE]) for at in range(0, len(text), _SLICE)])


def plain_table() -> dict[str, str]:
    """The plain character by the odd one."""
    return _tables()[0]


@cache
def _tables() -> tuple[dict[str, str], re.Pattern[str]]:
    """The plain character by the odd one, and what finds an odd one."""
    table = {chr(code): " " for code in _SPACES} | {chr(code): "-" for code in _HYPHENS}
    for code in chain(*_RANGES):
        char = chr(code)
        if char in table:
            continue
        digit = unicodedata.digit(char, None)
        plain = str(digit) if digit is not None else unicodedata.normalize("NFKC", char)
        if plain in _WANTED:
            table[char] = plain
    basic = re.escape("".join(char for char in sorted(table) if ord(char) < 0x10000))
    return table, re.compile(f"[{basic}]|[\U0001d400-\U0001d7ff]")
