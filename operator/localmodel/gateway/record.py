"""The log record of one request: a closed list of fields, so that nothing private gets in by accident.

Pure. Metadata never holds a text of the client's or the model's; Full adds both bodies, for now without redaction.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from localmodel.api.gateway import Outcome

Endpoint = Literal["chat", "completions", "models", "page", "v2", "other"]


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
    key: str | None = None
    """Name of the API key."""
    """The address that the connection came from."""
    key_name: str | None = None
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
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float = 0.0
    overhead_seconds: float | None = None
    retries: int = 0
    """Attempts beyond the first that were made for this request."""
    segments: int | None = None
    """Parts that a long document was cut into, if it was."""


def encode(record: Record, request_body: bytes | None = None, response_body: bytes | None = None) -> bytes:
    """One line. The bodies are given in mode Full only."""
    document = asdict(record)
    for name in ("queue_seconds", "first_token_seconds", "total_seconds", "overhead_seconds"):
        if document[name] is not None:
            document[name] = round(document[name], 6)
    if request_body is not None:
        document["request_body"] = request_body.decode("utf-8", "replace")
    if response_body is not None:
        document["response_body"] = response_body.decode("utf-8", "replace")
    return json.dumps(document).encode() + b"\n"
