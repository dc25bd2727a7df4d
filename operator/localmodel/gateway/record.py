"""The log record of one request: a closed list of fields, so that nothing private gets in by accident.

Pure. Metadata never holds a text of the client's or the model's; Full adds both bodies, which `bodies` has redacted and cut.
"""

import json
from copy import copy
from typing import Any, Literal

import msgspec

from localmodel.api.gateway import Outcome

Endpoint = Literal["chat", "completions", "embeddings", "models", "page", "v2", "other"]


class Record(msgspec.Struct, tag_field="kind", tag="request"):
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


class Bodies(msgspec.Struct):
    """What mode Full adds to a record."""

    request_body: str | None = None
    request_body_cut: int = 0
    """Characters at the end that are not shown."""
    response_body: str | None = None
    """Of a stream, the document that its events amount to."""
    response_body_cut: int = 0
    withheld: str | None = None
    """Why a body is missing: it could not be searched for what must not be written."""


_SECONDS = [name for name in Record.__struct_fields__ if name.endswith("_seconds")]
_encode = msgspec.json.Encoder().encode


def snapshot(record: Record) -> Record:
    """As it is now, whatever becomes of it."""
    return copy(record)


def encode(record: Record, bodies: Bodies | None = None) -> bytes:
    """A JSON object, to be made a line by `chain`. Rounds the record's seconds to microseconds."""
    for name in _SECONDS:
        if (seconds := getattr(record, name)) is not None:
            setattr(record, name, int(seconds * 1e6 + 0.5) / 1e6)  # round() takes three times as long
    line = _encode_struct(record)
    return line if bodies is None else line[:-1] + b"," + _encode_struct(bodies)[1:]


def _encode_struct(struct: msgspec.Struct) -> bytes:
    try:
        return _encode(struct)
    except UnicodeEncodeError:
        tag = {"kind": "request"} if isinstance(struct, Record) else {}
        return encode_document(tag | msgspec.structs.asdict(struct))


def encode_document(document: dict[str, Any]) -> bytes:
    """Half a surrogate pair, which no UTF-8 can hold, stays an escape."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
