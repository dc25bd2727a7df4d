"""Redacts several bodies at once in C: what `bodies`, `body_texts` and `redact` do, for bodies of the usual forms.

Why it exists: what Python needs for each text, finding and member is most of what the log costs. It must show the same, byte for
byte, or say that it can't: then those do it, as they do where no compiler was when the wheel was built. Own patterns stay RE2's.
"""

import ctypes
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from localmodel import c_library
from localmodel.api.gateway import RedactKind
from localmodel.gateway.body_texts import KNOWN_KEYS, SAID_BY_US
from localmodel.gateway.plain_characters import plain_table

MOST_BYTES, MOST_BODIES = 1 << 17, 128
"""Of one call, as in body_search.h."""
_KNOWN_BYTES = 32
_KINDS: dict[RedactKind, int] = {"BankCard": 1, "Email": 2, "IDCard": 4, "Phone": 8}
_EAST, _OTHER = 0x80, 0x81
_ASIAN = (range(0x2010, 0x2070), range(0x3000, 0xA000), range(0xAC00, 0xD7A4), range(0xFF00, 0xFFF0))
"""Signs and letters that are neither Latin nor Greek nor Cyrillic, but for those that are written as plain ones."""
_MATHEMATICAL = range(0x1D400, 0x1D800)

Find = Callable[[bytes], Iterable[tuple[int, int]]]


_POINTER, _NUMBER, _DATA = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
_library, _absence = c_library.load(
    Path(__file__).parent,
    "_body_search",
    {
        "take_apart": ([_POINTER, _DATA, _POINTER, _DATA, _NUMBER, _DATA, _DATA], _NUMBER),
        "write_plain": ([_POINTER, _POINTER], _NUMBER),
        "put_together": ([_POINTER, _POINTER, _NUMBER, _POINTER, _NUMBER, _NUMBER, _POINTER, _NUMBER, _POINTER], _NUMBER),
        "search_size": ([], _NUMBER),
    },
)


def built() -> bool:
    return _library is not None


def absence() -> str:
    """Why it is not built, for the log."""
    return _absence


@cache
def tables() -> tuple[bytes, bytes]:
    """The plain character of each beyond ASCII, and the known keys, as body_json.c wants them."""
    table = plain_table()
    codes = [*range(0x10000), *_MATHEMATICAL]
    east = {code for codes in _ASIAN for code in codes}
    plain = bytes(ord(table.get(chr(code), "\0")) or (_EAST if code in east else _OTHER) for code in codes)
    kinds = dict.fromkeys(KNOWN_KEYS, "k") | dict.fromkeys(SAID_BY_US & KNOWN_KEYS, "o") | {"logprobs": "l"}
    kinds |= dict.fromkeys(SAID_BY_US - KNOWN_KEYS, "s")
    assert len(kinds) <= 64 and all(len(key) <= _KNOWN_BYTES - 2 for key in kinds)
    known = [f"{kind}{chr(len(key))}{key}".encode().ljust(_KNOWN_BYTES, b"\0") for key, kind in kinds.items()]
    return plain, b"".join([*known, b"\0"])


def _pairs(places: "array[int]") -> tuple[int, int]:
    """Address and count."""
    address, count = places.buffer_info()
    return address, count // 2


class BodySearch:
    """Of one redactor."""

    def __init__(self, kinds: Collection[RedactKind]) -> None:
        self._kinds = sum(_KINDS[kind] for kind in kinds)
        self._lock = threading.Lock()
        assert _library is not None
        self._state = ctypes.create_string_buffer(_library.localmodel_search_size())
        self._output = ctypes.create_string_buffer(2 * MOST_BYTES)
        self._ends = (ctypes.c_int32 * MOST_BODIES)()

    def show(self, bodies: Sequence[bytes], ours: Sequence[bool], find_own: Find | None) -> list[str | None]:
        """Each as it may be written, or None. `ours`: an answer that the gateway composed. `find_own`: where own patterns match
        in UTF-8."""
        shown: list[str | None] = []
        while (first := len(shown)) < len(bodies):
            size, last = 0, first
            while last < len(bodies) and last - first < MOST_BODIES and size + len(bodies[last]) <= MOST_BYTES:
                size += len(bodies[last])
                last += 1
            if last > first:
                with self._lock:
                    shown += self._show(bodies[first:last], ours[first:last], find_own)
            else:
                shown.append(None)
        return shown

    def _show(self, bodies: Sequence[bytes], ours: Sequence[bool], find_own: Find | None) -> list[str | None]:
        library: Any = _library
        plain, known = tables()
        state, output = ctypes.addressof(self._state), ctypes.addressof(self._output)
        ends = array("i", accumulate(map(len, bodies)))
        size = library.localmodel_take_apart(
            state, b"".join(bodies), ends.buffer_info()[0], bytes(ours), len(bodies), plain, known
        )
        own, odd = array("i"), array("i")
        if find_own is not None:
            own.extend(chain.from_iterable(find_own(ctypes.string_at(state, size))))
            if size := library.localmodel_write_plain(state, output):
                odd.extend(chain.from_iterable(find_own(ctypes.string_at(output, size))))
        if not library.localmodel_put_together(
            state, *_pairs(own), *_pairs(odd), self._kinds, output, len(self._output), ctypes.addressof(self._ends)
        ):
            return [None] * len(bodies)
        shown: list[str | None] = []
        at, found = 0, self._ends[: len(bodies)]
        written = ctypes.string_at(output, max(0, *found))
        for end in found:
            shown.append(None if end < 0 else written[at:end].decode())
            at = max(at, end)
        return shown
