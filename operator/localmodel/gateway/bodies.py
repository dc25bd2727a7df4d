"""Bodies as the log may hold them: redacted as a whole, then cut to a length, with what was cut named.

Pure. JSON is opened first, so that escapes, numbers and JSON inside of texts are searched as what they mean (see `body_texts`);
what is no JSON is searched as text.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from localmodel.gateway.body_texts import Filling, Texts, dump, load
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


class Opened:
    """A body whose texts are to be searched."""

    def __init__(self, body: bytes | Any, *, as_text: bool = False) -> None:
        """`body`: bytes as they came, or a document already. `as_text`: don't read JSON, which may not show all (double keys)."""
        self._found = Texts()
        self._document = body
        self._text: str | None = None
        """Instead of a document."""
        if isinstance(body, bytes):
            self._read(body, as_text)
        else:
            self._found.gather(body)

    def _read(self, body: bytes, as_text: bool) -> None:
        if not as_text:
            try:
                self._document = load(body)
                self._found.gather(self._document)
                return
            except (ValueError, RecursionError):
                self._found = Texts()
        self._text = _ESCAPE.sub(_unescape, body.decode("utf-8", "replace"))
        self._found.texts.append(self._text)

    @property
    def texts(self) -> list[str]:
        return self._found.texts

    def show(self, redacted: Sequence[str], limit: int = SHOWN_CHARACTERS) -> Shown:
        """`redacted`: what became of `texts`."""
        text = redacted[0] if self._text is not None else self._dump(redacted)
        return Shown(text[:limit], max(0, len(text) - limit))

    def _dump(self, redacted: Sequence[str]) -> str:
        if not self._found.rewritten and redacted == self._found.texts:
            return dump(self._document)
        return dump(Filling(redacted, self._found.inner).fill(self._document))


def show(body: bytes | Any, redactor: Redactor, *, as_text: bool = False, limit: int = SHOWN_CHARACTERS) -> Shown:
    """One body by itself. Raises Withheld rather than show what was not searched."""
    opened = Opened(body, as_text=as_text)
    try:
        return opened.show(redactor.redact_all(opened.texts), limit)
    except TooCostly:
        raise Withheld("searching it for what must not be written took too long") from None


def _unescape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code < 0xE000 else chr(code)
