"""The channel's documents inside Triton's JSON: made, and read into types in one go.

What is read here came over a wire: a wrong type, a number that is none or a byte that is no UTF-8 must not reach a client's
answer. Whatever is wrong becomes one of `backend_errors`. No I/O.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from localmodel.api.channel import REQUEST, NewSequence, Refusal
from localmodel.api.events import EventBatch
from localmodel.gateway.backend_errors import BackendGarbage, Refused, backend_error

T = TypeVar("T", bound=BaseModel)


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """What Triton makes of one response; its name is `channel.RESPONSE`."""

    RESPONSE: str | None = None
    error: Any = None


_BROKEN = (msgspec.DecodeError, UnicodeError, RecursionError)
_open_envelope = msgspec.json.Decoder(_Envelope).decode
read_batch = msgspec.json.Decoder(EventBatch).decode
"""Of the engine's document alone; raises msgspec.DecodeError."""
_read_any = msgspec.json.Decoder().decode


def envelope(request: BaseModel) -> bytes:
    return msgspec.json.encode({REQUEST: request.model_dump_json()})


def submit_envelope(token: str, instance: str, epoch: int, sequences: Sequence[NewSequence]) -> bytes:
    """The envelope of a `Submit`, whose sequences have been checked when they were made."""
    rows = [
        {
            "id": each.id,
            "prompt": each.prompt,
            "sampling": msgspec.Raw(each.sampling.model_dump_json().encode()),
            "deadline_seconds": each.deadline_seconds,
        }
        for each in sequences
    ]
    request = {"op": "submit", "token": token, "instance": instance, "epoch": epoch, "sequences": rows}
    return msgspec.json.encode({REQUEST: msgspec.json.encode(request).decode()})


def parse_batch(payload: bytes) -> EventBatch:
    """One response of the event stream. Raises BackendError, Refused or BackendGarbage."""
    text = _open(payload)
    try:
        return read_batch(text)
    except _BROKEN:
        _check_refusal(_read(text))
        raise BackendGarbage("a malformed event") from None


def parse_answer(model: type[T], body: bytes) -> T:
    """The only response to a short request. Raises the same."""
    document = _read(_open(body))
    _check_refusal(document)
    return _parse(model, document)


def _open(body: bytes) -> str:
    try:
        outer = _open_envelope(body)
    except _BROKEN:
        raise BackendGarbage("an answer that is no JSON of the channel") from None
    if outer.error is not None:
        raise backend_error(str(outer.error)[:2000], 200)
    if outer.RESPONSE is None:
        raise BackendGarbage("an answer without a response")
    return outer.RESPONSE


def _read(text: str) -> Any:
    try:
        return _read_any(text)
    except _BROKEN:
        raise BackendGarbage("an answer that is no JSON of the channel") from None


def _check_refusal(document: Any) -> None:
    if isinstance(document, dict) and "code" in document:
        raise Refused(_parse(Refusal, document))


def _parse(model: type[T], document: Any) -> T:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BackendGarbage(f"no {model.__name__}: {error.errors()[0]['msg']}") from None


def error_message(body: bytes, status: int) -> str:
    """Triton's own words, or what there is instead."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return f"Triton answered {status}: {body[:300].decode('utf-8', 'replace')}"
