"""Redacts the bodies of several records in one search, which costs a fraction of a search for each.

For the log's thread. What can't be searched is withheld, and a record that is the cause of it costs no other record its bodies.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from localmodel.gateway.bodies import KEPT_BYTES, Opened, Withheld
from localmodel.gateway.kept_answer import Kept
from localmodel.gateway.record import Bodies
from localmodel.gateway.redact import Redactor, TooCostly

log = logging.getLogger("localmodel.gateway.log")

_TOO_LARGE = f"it is larger than {KEPT_BYTES} bytes"


class Exchanged(NamedTuple):
    """What came and what was sent."""

    request_id: str
    request: bytes
    as_text: bool
    """The request is no JSON that can be trusted to show all."""
    answer: Kept | None


def show_all(exchanges: Sequence[Exchanged], redactor: Redactor) -> list[Bodies]:
    """One for each, in order."""
    try:
        return _show_together(exchanges, redactor)
    except Exception as error:
        if len(exchanges) > 1:
            return [bodies for each in exchanges for bodies in show_all([each], redactor)]
        return [Bodies(withheld=_reason(error, exchanges[0].request_id))]


def _reason(error: Exception, request_id: str) -> str:
    """Whatever it was: the request is recorded, and nothing is shown that was not searched."""
    if isinstance(error, TooCostly):
        return "searching it for what must not be written took too long"
    if isinstance(error, Withheld):
        return str(error)
    log.error("the bodies of request %s can't be logged", request_id, exc_info=error)
    return "redaction failed"


def _show_together(exchanges: Sequence[Exchanged], redactor: Redactor) -> list[Bodies]:
    opened = [_open(each) for each in exchanges]
    texts = [text for bodies in opened for body in bodies for text in body.texts]
    redacted = redactor.redact_all(texts)
    shown = []
    at = 0
    for bodies in opened:
        fields: list[str | int] = []
        for body in bodies:
            fields += body.show(redacted[at : at + len(body.texts)])
            at += len(body.texts)
        shown.append(Bodies(*fields))  # type: ignore[arg-type]
    return shown


def _open(exchanged: Exchanged) -> list[Opened]:
    """The request, and the answer if there is one."""
    request = Opened(exchanged.request, as_text=exchanged.as_text)
    if exchanged.answer is None:
        return [request]
    if exchanged.answer.too_large:
        raise Withheld(_TOO_LARGE)
    return [request, Opened(exchanged.answer.content())]
