"""Bodies as the log may hold them: redacted as a whole, then cut to a length, with what was cut named.

Pure. JSON is opened first, so that escapes, numbers and JSON inside of texts are searched as what they mean; what is no JSON is
searched as text. Where a text would stand as numbers (token ids, vectors) or token by token (log-probabilities), it is left out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from localmodel.gateway.redact import Redactor, TooCostly

KEPT_BYTES = 16 * 1024 * 1024
"""A larger body is not kept: only all of it could be redacted."""
SHOWN_CHARACTERS = 64 * 1024
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_LONG_NUMBER = 1_000_000
_DEEPEST = 3
"""JSON in a text in JSON: so often."""
_DEEPEST_LEVEL = 200
"""What is nested deeper is searched as text; the gateway answers nothing that is deeper than 64."""
_dump = json.JSONEncoder(ensure_ascii=False).encode
_KNOWN_KEYS = frozenset(
    {
        "model", "messages", "role", "content", "type", "text", "prompt",
        "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n",
        "stop", "seed", "stream_options", "include_usage", "id", "object", "created",
        "choices", "index", "message", "delta", "finish_reason", "logprobs", "usage",
        "prompt_tokens", "completion_tokens", "total_tokens", "refusal", "error", "param", "code",
        "REQUEST", "RESPONSE", "op", "sampling", "model_name", "model_version",
    }
)  # fmt: skip


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
        self._found = _Texts()
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
                self._document = json.loads(body)
                self._found.gather(self._document)
                return
            except (ValueError, RecursionError):
                self._found = _Texts()
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
            return _dump(self._document)
        return _dump(_Filling(redacted, self._found.inner).fill(self._document))


def show(body: bytes | Any, redactor: Redactor, *, as_text: bool = False, limit: int = SHOWN_CHARACTERS) -> Shown:
    """One body by itself. Raises Withheld rather than show what was not searched."""
    opened = Opened(body, as_text=as_text)
    try:
        return opened.show(redactor.redact_all(opened.texts), limit)
    except TooCostly:
        raise Withheld("searching it for what must not be written took too long") from None


class _Texts:
    """All that must be searched in a document, in the order in which _Filling asks for it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.inner: list[Any] = []
        """Of each text that may be JSON, the document or None."""
        self.rewritten = False
        """Something is left out or opened: the document is not shown as it is, whatever is found."""

    def gather(self, value: Any, depth: int = 0, level: int = 0) -> None:
        """`depth` of JSON in a text in JSON, `level` of lists and objects. Raises RecursionError."""
        kind = type(value)
        if kind is str:
            if _may_be_json(value, depth):
                self.inner.append(_open(value))
                if self.inner[-1] is not None:
                    self.rewritten = True
                    self.gather(self.inner[-1], depth + 1, level)
                    return
            self.texts.append(value)
        elif level > _DEEPEST_LEVEL:
            raise RecursionError
        elif kind is dict:
            for key, each in value.items():
                if key not in _KNOWN_KEYS:
                    self.texts.append(key)
                if _left_out(key, each):
                    self.rewritten = True
                else:
                    self.gather(each, depth, level + 1)
        elif kind is list:
            if _only_numbers(value):
                self.rewritten = True
            else:
                for each in value:
                    self.gather(each, depth, level + 1)
        elif _is_long_number(value):
            self.texts.append(repr(value))


class _Filling:
    """The document with what came back from the search."""

    def __init__(self, texts: Iterable[str], inner: Iterable[Any]) -> None:
        self._texts = iter(texts)
        self._inner = iter(inner)

    def fill(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            if _may_be_json(value, depth) and (inner := next(self._inner)) is not None:
                return _dump(self.fill(inner, depth + 1))
            return next(self._texts)
        if kind is dict:
            return {
                key if key in _KNOWN_KEYS else next(self._texts): (
                    "[left out]" if _left_out(key, each) else self.fill(each, depth)
                )
                for key, each in value.items()
            }
        if kind is list:
            return f"[{len(value)} numbers left out]" if _only_numbers(value) else [self.fill(each, depth) for each in value]
        if _is_long_number(value):
            text = next(self._texts)
            return value if text == repr(value) else text
        return value


def _may_be_json(text: str, depth: int) -> bool:
    return text[:1] in ("{", "[") and depth < _DEEPEST


def _left_out(key: str, value: Any) -> bool:
    return key == "logprobs" and isinstance(value, dict | list)


def _only_numbers(value: list[Any]) -> bool:
    return bool(value) and type(value[0]) in (int, float) and all(type(each) in (int, float) for each in value)


def _is_long_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) >= _LONG_NUMBER


def _open(text: str) -> Any:
    """The object or list that a text is the JSON of, else None."""
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return inner if isinstance(inner, dict | list) else None


def _unescape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code < 0xE000 else chr(code)
