"""Puts the pieces of a streamed answer together again, so that a number that came in three events is seen as one.

Pure and incremental: fed with the bytes that were sent, cut anywhere. Chunks of OpenAI's form become one document of the same
form with whole texts; Triton's (`generate_stream`) become theirs. Neighbours that differ in one text only, which almost all do,
are joined as bytes before anything is decoded.
"""

import json
from typing import Any

from localmodel.api.channel import RESPONSE
from localmodel.gateway import sse

_PIECES = frozenset({"content", "text", "arguments", "refusal", "reasoning", "reasoning_content"})
"""Texts that come in pieces. Any other value is replaced by a later one."""
_BATCH_BYTES = 64 * 1024
_END = b"\n\n"


class StreamFold:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._event_ended = False
        self._head = b""
        self._seam = b""
        """What stands between the texts of two chunks that differ in nothing else: the end of one, the head of the next."""
        self._document: Any = {}

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._event_ended = self._event_ended or _END in data
        if self._size >= _BATCH_BYTES and self._event_ended:
            self._fold()

    def document(self) -> Any:
        """All that came so far. What breaks the form is kept as text under `unreadable`."""
        self._fold()
        return self._document

    def _fold(self) -> None:
        data, rest = _cut_after_last_event(b"".join(self._parts))
        self._parts = [rest]
        self._size = len(rest)
        self._event_ended = False
        if not self._seam:
            self._head, self._seam, shape = _find_seam(data)
            self._document = _merge(self._document, shape)
        try:
            chunks = [_read(payload) for payload in _payloads(self._join(data))]
        except (ValueError, RecursionError):  # more than a text differed, or it is broken
            chunks = [_read_any(payload) for payload in _payloads(data)]
        for chunk in chunks:
            self._document = _merge(self._document, chunk)

    def _join(self, data: bytes) -> bytes:
        """A seam is dropped if the chunk before it has the same head, too."""
        if not self._seam:
            return data
        first, *parts = data.split(self._seam)
        joined = [first]
        same = first.startswith(self._head, first.rfind(_END) + len(_END) if _END in first else 0)
        for part in parts:
            joined += (part,) if same else (self._seam, part)
            same = _END not in part or part.startswith(self._head, part.rfind(_END) + len(_END))
        return b"".join(joined)


def _cut_after_last_event(data: bytes) -> tuple[bytes, bytes]:
    at = data.rfind(_END)
    return (data[: at + len(_END)], data[at + len(_END) :]) if at >= 0 else (b"", data)


def _payloads(data: bytes) -> list[bytes]:
    return sse.Decoder(limit=len(data)).feed(data)


def _find_seam(data: bytes) -> tuple[bytes, bytes, dict[str, Any]]:
    """Head and seam, from the first chunk that holds a text, and one only; and what else it says, which joining may drop."""
    for payload in _payloads(data[: _BATCH_BYTES // 32]):
        chunk = _read_any(payload)
        texts = [text for text in _piece_texts(chunk) if text]
        quoted = json.dumps(texts[0]).encode() if len(texts) == 1 else b""
        if quoted and payload.count(quoted) == 1:
            head, tail = payload.split(quoted)
            start = b"data: " + head + b'"'
            return start, b'"' + tail + _END + start, json.loads(head + b'""' + tail)
    return b"", b"", {}


def _read(payload: bytes) -> dict[str, Any]:
    if payload == b"[DONE]":
        return {}
    chunk = json.loads(payload)
    return _open_envelope(chunk) if isinstance(chunk, dict) else {"unreadable": [chunk]}


def _read_any(payload: bytes) -> dict[str, Any]:
    try:
        return _read(payload)
    except (ValueError, RecursionError):
        return {"unreadable": [payload.decode("utf-8", "replace")]}


def _open_envelope(chunk: dict[str, Any]) -> dict[str, Any]:
    """Triton's text that holds JSON, as JSON."""
    inner = chunk.get(RESPONSE)
    if isinstance(inner, str):
        try:
            return {**chunk, RESPONSE: json.loads(inner)}
        except (ValueError, RecursionError):
            pass
    return chunk


def _piece_texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [text for key, text in value.items() if key in _PIECES and isinstance(text, str)]
        return found + [text for each in value.values() for text in _piece_texts(each)]
    return [text for each in value for text in _piece_texts(each)] if isinstance(value, list) else []


def _merge(old: Any, new: Any, key: str = "") -> Any:
    """`delta` becomes `message`; lists are joined by the items' `index`, or else one after the other."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = dict(old)
        for name, value in new.items():
            name = "message" if name == "delta" else name
            merged[name] = _merge(merged.get(name), value, name)
        return merged
    if isinstance(new, dict):
        return _merge({}, new)
    if isinstance(new, list):
        return _merge_lists(old if isinstance(old, list) else [], new)
    if isinstance(old, str) and isinstance(new, str) and key in _PIECES:
        return old + new
    return old if new is None else new


def _merge_lists(old: list[Any], new: list[Any]) -> list[Any]:
    merged = list(old)
    places = {item["index"]: place for place, item in enumerate(merged) if isinstance(item, dict) and "index" in item}
    for item in new:
        place = places.get(item.get("index")) if isinstance(item, dict) else None
        if place is None:
            merged.append(_merge(None, item))
        else:
            merged[place] = _merge(merged[place], item)
    return merged
