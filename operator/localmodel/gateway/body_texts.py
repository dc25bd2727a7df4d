"""What must be searched in a JSON document, and the document with what came of it in its place.

Texts, keys that a client chose and long numbers are searched, JSON inside of texts is opened first. Where a text would
stand as numbers (token ids, vectors) or token by token (log-probabilities), it is left out.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

_LONG_NUMBER = 1_000_000
_DEEPEST = 3
"""JSON in a text in JSON: so often."""
_DEEPEST_LEVEL = 200
"""What is nested deeper is searched as text; the gateway answers nothing that is deeper than 64."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
KNOWN_KEYS = frozenset(
    {
        "model", "messages", "role", "content", "type", "text", "prompt",
        "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n",
        "stop", "seed", "stream_options", "include_usage", "id", "object", "created",
        "choices", "index", "message", "delta", "finish_reason", "logprobs", "usage",
        "prompt_tokens", "completion_tokens", "total_tokens", "refusal", "error", "param", "code",
        "REQUEST", "RESPONSE", "op", "sampling", "model_name", "model_version",
    }
)  # fmt: skip
"""They are not searched."""
SAID_BY_US = frozenset({"id", "object", "created", "model", "system_fingerprint", "usage"})
"""Of an answer that the gateway composed, what it says of itself there."""


class Texts:
    """Takes a document over: it is changed in place."""

    def __init__(self, document: Any, shown: Collection[str] = ()) -> None:
        """`shown`: members of the document that are not looked at. Raises RecursionError."""
        self.texts: list[str] = []
        """All that must be searched."""
        self._places: list[tuple[Any, Any]] = []
        """Of each text, the list or object that it stands in, and where there."""
        self._inner: list[tuple[Any, Any, list[Any] | int]] = []
        """What is finished once all that is inside has been, the innermost first: a list or object, a place in it and the JSON
        that becomes a text there; or an object, and where its keys begin and end among the texts."""
        self._root = [document]
        if shown:
            for key, each in document.items():
                if key not in shown:
                    self._gather(each, document, key, 0, 1)
        else:
            self._gather(document, self._root, 0, 0, 0)

    def filled(self, redacted: Sequence[str]) -> Any:
        """The document; `redacted`: what became of `texts`."""
        if redacted != self.texts:
            for (holder, place), old, new in zip(self._places, self.texts, redacted, strict=True):
                if new != old and holder is not None:
                    holder[place] = new
        for holder, place, content in self._inner:
            if isinstance(content, list):
                holder[place] = dump(content[0])
            elif (names := redacted[place:content]) != (keys := self.texts[place:content]):
                _rename(holder, dict(zip(keys, names, strict=True)))
        return self._root[0]

    def _gather(self, value: Any, holder: Any, place: Any, depth: int, level: int) -> None:
        """`depth` of JSON in a text in JSON, `level` of lists and objects."""
        kind = type(value)
        if kind is str:
            if value[:1] in ("{", "[") and depth < _DEEPEST and (inner := _open(value)) is not None:
                content = [inner]
                self._gather(inner, content, 0, depth + 1, level)
                self._inner.append((holder, place, content))
            else:
                self._add(value, holder, place)
        elif level > _DEEPEST_LEVEL:
            raise RecursionError
        elif kind is dict:
            first = len(self.texts)
            for key in value:
                if key not in KNOWN_KEYS:
                    self._add(key, None, None)
            last = len(self.texts)
            for key, each in value.items():
                if key == "logprobs" and isinstance(each, dict | list):
                    value[key] = "[left out]"
                else:
                    self._gather(each, value, key, depth, level + 1)
            if last > first:
                self._inner.append((value, first, last))
        elif kind is list:
            if _only_numbers(value):
                holder[place] = f"[{len(value)} numbers left out]"
            else:
                for index, each in enumerate(value):
                    self._gather(each, value, index, depth, level + 1)
        elif (kind is int or kind is float) and abs(value) >= _LONG_NUMBER:
            self._add(repr(value), holder, place)

    def _add(self, text: str, holder: Any, place: Any) -> None:
        self.texts.append(text)
        self._places.append((holder, place))


def _rename(document: dict[str, Any], names: dict[str, str]) -> None:
    items = [(names.get(key, key), value) for key, value in document.items()]
    document.clear()
    document.update(items)


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


def dump_bytes(document: Any) -> bytes:
    """Half a surrogate pair, which no UTF-8 can hold, becomes an escape."""
    try:
        return _encode(document)
    except (ValueError, OverflowError):
        return dump(document).encode("utf-8", "backslashreplace")


def _only_numbers(value: list[Any]) -> bool:
    return bool(value) and type(value[0]) in (int, float) and all(type(each) in (int, float) for each in value)


def _open(text: str) -> Any:
    """The object or list that a text is the JSON of, else None."""
    try:
        inner = load(text)
    except (ValueError, RecursionError):
        return None
    return inner if isinstance(inner, dict | list) else None
