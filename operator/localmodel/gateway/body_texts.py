"""What must be searched in a JSON document, and the document again with what came of it.

Pure. Texts, keys that a client chose and long numbers are searched, JSON inside of texts is opened first. Where a text would
stand as numbers (token ids, vectors) or token by token (log-probabilities), it is left out.
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

_LONG_NUMBER = 1_000_000
_DEEPEST = 3
"""JSON in a text in JSON: so often."""
_DEEPEST_LEVEL = 200
"""What is nested deeper is searched as text; the gateway answers nothing that is deeper than 64."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
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


class Texts:
    """All that must be searched in a document, in the order in which Filling asks for it."""

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


class Filling:
    """The document with what came back from the search."""

    def __init__(self, texts: Iterable[str], inner: Iterable[Any]) -> None:
        self._texts = iter(texts)
        self._inner = iter(inner)

    def fill(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            if _may_be_json(value, depth) and (inner := next(self._inner)) is not None:
                return dump(self.fill(inner, depth + 1))
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


def load(text: bytes | str) -> Any:
    """Also what only Python takes for JSON: half a surrogate pair, NaN. Raises ValueError or RecursionError."""
    try:
        return _decode(text)
    except ValueError:
        return json.loads(text)


def dump(document: Any) -> str:
    try:
        return _encode(document).decode()
    except (ValueError, OverflowError):  # half a surrogate pair, a number of more than 64 bits
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


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
        inner = load(text)
    except (ValueError, RecursionError):
        return None
    return inner if isinstance(inner, dict | list) else None
