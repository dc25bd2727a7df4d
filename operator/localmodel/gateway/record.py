"""The log record of one request: a closed list of fields, so that nothing private gets in by accident.

Pure. Metadata never holds a text of the client's or the model's; Full adds both bodies, which `bodies` has redacted and cut.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, Literal

from localmodel.api.gateway import Outcome

Endpoint = Literal["chat", "completions", "embeddings", "models", "page", "v2", "other"]


@dataclass(slots=True)
class Record:
    request_id: str
    pod: str
    namespace: str
    model: str
    model_version: str
    time: str = ""
    """RFC 3339, when the request's head was complete."""
    endpoint: Endpoint = "other"
    served_name: str | None = None
    """The name the client asked for, only if it is served here."""
    client: str | None = None
    """The address that the connection came from."""
    key: str | None = None
    """Name of the API key that was used, never the key."""
    trace_id: str = ""
    span_id: str = ""
    """This request's own, as W3C Trace Context has it."""
    parent_span_id: str | None = None
    """The caller's span, if it sent a valid traceparent."""
    stream: bool = False
    status: int | None = None
    """None if the client left before an answer began."""
    outcome: Outcome = "internal_error"
    code: str | None = None
    finish_reason: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    truncated_tokens: int | None = None
    """Tokens of a chat that is too long that were left out."""
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float = 0.0
    overhead_seconds: float | None = None
    retries: int = 0
    """Attempts beyond the first that were made for this request."""
    segments: int | None = None
    """Parts that a long document was cut into, if it was."""


@dataclass(slots=True)
class Bodies:
    """What mode Full adds to a record."""

    request_body: str | None = None
    request_body_cut: int = 0
    """Characters at the end that are not shown."""
    response_body: str | None = None
    """Of a stream, the document that its events amount to."""
    response_body_cut: int = 0
    withheld: str | None = None
    """Why a body is missing: it could not be searched for what must not be written."""


_FIELDS = tuple(field.name for field in fields(Record))
_BODY_FIELDS = tuple(field.name for field in fields(Bodies))
_take = attrgetter(*_FIELDS)
_take_bodies = attrgetter(*_BODY_FIELDS)


def _form(names: Sequence[str]) -> str:
    return "{" + ",".join(['"kind":"request"', *(f'"{name}":%s' for name in names)]) + "}"


_METADATA, _FULL = _form(_FIELDS), _form(_FIELDS + _BODY_FIELDS)
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    float: lambda value: repr(round(value, 6)),
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}
"""Field by field, this takes half the time of a JSON encoder. Every float of a record is a number of seconds."""

Snapshot = tuple[Any, ...]


def snapshot(record: Record) -> Snapshot:
    """The record as it is now, whatever becomes of it, for `encode`."""
    return _take(record)


def encode(record: Snapshot, bodies: Bodies | None = None) -> bytes:
    """A JSON object, to be made a line by `chain`."""
    values = record if bodies is None else record + _take_bodies(bodies)
    form = _METADATA if bodies is None else _FULL
    return (form % tuple([_TEXTS[type(value)](value) for value in values])).encode("utf-8", "backslashreplace")


def encode_document(document: dict[str, Any]) -> bytes:
    """Half a surrogate pair, which no UTF-8 can hold, stays an escape."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
