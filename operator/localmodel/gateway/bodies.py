"""Bodies as the log may hold them: redacted as a whole, then cut to a length, with what was cut named.

JSON is opened first, so that escapes, numbers and JSON inside of texts are searched as what they mean (see `body_texts`);
what is no JSON is searched as text.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from localmodel.gateway.body_texts import SAID_BY_US, Texts, dump, load
from localmodel.gateway.redact import Redactor, TooCostly

KEPT_BYTES = 16 * 1024 * 1024
"""A larger body is not kept: only all of it could be redacted."""
SHOWN_CHARACTERS = 64 * 1024
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class Shown(NamedTuple):
    text: str
    cut: int
    """Characters that are not shown."""


class Withheld(Exception):
    """The body can't be shown; says why."""


class OwnDocument(NamedTuple):
    """An answer that the gateway composed: what it says of itself there needs no search."""

    data: bytes
    """JSON of an object."""


class AsText(NamedTuple):
    """A body that is no JSON, or of which reading JSON may not show all (double keys)."""

    data: bytes


class Opened:
    """A body whose texts are to be searched."""

    def __init__(self, body: bytes | Any | OwnDocument | AsText) -> None:
        """`body`: bytes as they came, or a document, which is taken over."""
        self._found: Texts | None = None
        self._text = ""
        if isinstance(body, OwnDocument):
            self._found = Texts(load(body.data), SAID_BY_US)
        elif isinstance(body, AsText):
            self._read_text(body.data)
        elif isinstance(body, bytes):
            try:
                self._found = Texts(load(body))
            except (ValueError, RecursionError):
                self._read_text(body)
        else:
            self._found = Texts(body)

    def _read_text(self, body: bytes) -> None:
        self._text = _ESCAPE.sub(_unescape, body.decode("utf-8", "replace"))

    @property
    def texts(self) -> list[str]:
        return [self._text] if self._found is None else self._found.texts

    def show(self, redacted: Sequence[str], limit: int = SHOWN_CHARACTERS) -> Shown:
        """`redacted`: what became of `texts`. Once."""
        return cut(redacted[0] if self._found is None else dump(self._found.filled(redacted)), limit)


def cut(text: str, limit: int = SHOWN_CHARACTERS) -> Shown:
    return Shown(text[:limit], max(0, len(text) - limit))


def show(body: bytes | Any, redactor: Redactor, *, limit: int = SHOWN_CHARACTERS) -> Shown:
    """One body by itself, as Python does it. Raises Withheld rather than show what was not searched."""
    opened = Opened(body)
    try:
        return opened.show(redactor.redact_all(opened.texts), limit)
    except TooCostly:
        raise Withheld("searching it for what must not be written took too long") from None


def _unescape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code < 0xE000 else chr(code)
