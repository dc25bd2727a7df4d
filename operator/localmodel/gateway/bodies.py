"""Bodies as the log may hold them: redacted as a whole, then cut to a length, with what was cut named.

Pure. JSON is opened first, so that escapes, numbers and JSON inside of texts are searched as what they mean; what is no JSON is
searched as text. Where a text would stand as numbers (token ids, vectors) or token by token (log-probabilities), it is left out.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from localmodel.gateway.redact import Redactor, TooCostly

KEPT_BYTES = 16 * 1024 * 1024
"""A larger body is not kept: only all of it could be redacted."""
SHOWN_CHARACTERS = 64 * 1024
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_LONG_NUMBER = 1_000_000
_DEEPEST = 3
"""JSON in a text in JSON: so often."""
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


def show(body: bytes | Any, redactor: Redactor, *, as_text: bool = False, limit: int = SHOWN_CHARACTERS) -> Shown:
    """`body`: bytes as they came, or a document already. `as_text`: don't read JSON, which may not show all (double keys).

    Raises Withheld rather than show what was not searched.
    """
    try:
        text = _redact(body, redactor, as_text)
    except TooCostly:
        raise Withheld("searching it for what must not be written took too long") from None
    return Shown(text[:limit], max(0, len(text) - limit))


def _redact(body: bytes | Any, redactor: Redactor, as_text: bool) -> str:
    if not isinstance(body, bytes):
        return _redact_document(body, redactor)
    try:
        if not as_text:
            return _redact_document(json.loads(body), redactor)
    except (ValueError, RecursionError):
        pass
    return redactor.redact(_ESCAPE.sub(_unescape, body.decode("utf-8", "replace")))


def _redact_document(document: Any, redactor: Redactor) -> str:
    found = _Texts()
    found.gather(document, 0)
    redacted = redactor.redact_all(found.texts)
    if redacted is found.texts and not found.rewritten:
        return _dump(document)
    return _dump(_Filling(redacted, found.inner).fill(document, 0))


class _Texts:
    """All that must be searched in a document, in the order in which _Filling asks for it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.inner: list[Any] = []
        """Of each text that may be JSON, the document or None."""
        self.rewritten = False
        """Something is left out or opened: the document is not shown as it is, whatever is found."""

    def gather(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind is str:
            if _may_be_json(value, depth):
                self.inner.append(_open(value))
                if self.inner[-1] is not None:
                    self.rewritten = True
                    self.gather(self.inner[-1], depth + 1)
                    return
            self.texts.append(value)
        elif kind is dict:
            for key, each in value.items():
                if key not in _KNOWN_KEYS:
                    self.texts.append(key)
                if _left_out(key, each):
                    self.rewritten = True
                else:
                    self.gather(each, depth)
        elif kind is list:
            if _only_numbers(value):
                self.rewritten = True
            else:
                for each in value:
                    self.gather(each, depth)
        elif _is_long_number(value):
            self.texts.append(repr(value))


class _Filling:
    """The document with what came back from the search."""

    def __init__(self, texts: Iterable[str], inner: Iterable[Any]) -> None:
        self._texts = iter(texts)
        self._inner = iter(inner)

    def fill(self, value: Any, depth: int) -> Any:
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
