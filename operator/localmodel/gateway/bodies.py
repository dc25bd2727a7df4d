"""Bodies as the log may hold them: redacted as a whole, then cut to a length, with what was cut named.

Pure. JSON is opened first, so that escapes, numbers and JSON inside of texts are searched as what they mean; what is no JSON is
searched as text. Where a text would stand as numbers (token ids, vectors) or token by token (log-probabilities), it is left out.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from localmodel.gateway.redact import Redactor, TooCostly

KEPT_BYTES = 16 * 1024 * 1024
"""A larger body is not kept: only all of it could be redacted."""
SHOWN_CHARACTERS = 64 * 1024
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_LONG_NUMBER = 1_000_000
_DEEPEST = 3
"""JSON in a text in JSON: so often."""
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


class _Leaf:
    """A text inside a document, until it is redacted."""

    __slots__ = ("inner", "text")

    def __init__(self, text: str, inner: Any = None) -> None:
        self.text = text
        self.inner = inner


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
    leaves: list[_Leaf] = []
    prepared = _prepare(document, leaves, redactor.redact, 0)
    plain = [leaf for leaf in leaves if leaf.inner is None]
    for leaf, text in zip(plain, redactor.redact_all([leaf.text for leaf in plain]), strict=True):
        leaf.text = text
    return _dump(prepared)


def _prepare(value: Any, leaves: list[_Leaf], redact: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        leaf = _Leaf(value)
        if value[:1] in ("{", "[") and depth < _DEEPEST:
            leaf.inner = _open(value, leaves, redact, depth)
        leaves.append(leaf)
        return leaf
    if isinstance(value, dict):
        return {
            key if key in _KNOWN_KEYS else redact(key): (
                "[left out]" if key == "logprobs" and isinstance(each, dict | list) else _prepare(each, leaves, redact, depth)
            )
            for key, each in value.items()
        }
    if isinstance(value, list):
        if value and all(type(each) in (int, float) for each in value):
            return f"[{len(value)} numbers left out]"
        return [_prepare(each, leaves, redact, depth) for each in value]
    if type(value) in (int, float) and abs(value) >= _LONG_NUMBER:
        text = redact(repr(value))
        return value if text == repr(value) else text
    return value


def _open(text: str, leaves: list[_Leaf], redact: Callable[[str], str], depth: int) -> Any:
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _prepare(inner, leaves, redact, depth + 1) if isinstance(inner, dict | list) else None


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_write_leaf)


def _write_leaf(leaf: _Leaf) -> str:
    return leaf.text if leaf.inner is None else _dump(leaf.inner)


def _unescape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code < 0xE000 else chr(code)
