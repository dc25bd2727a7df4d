"""Redacts the bodies of several records in one search, which costs a fraction of a search for each.

For the log's thread. What can't be searched is withheld, and a record that is the cause of it costs no other record its bodies.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from localmodel.gateway.bodies import KEPT_BYTES, AsText, Opened, OwnDocument, Shown, Withheld, cut
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
    contents = [content for each in exchanges for content in _contents(each)]
    shown = iter(_show_contents(contents, redactor))
    return [Bodies(*next(shown), *(next(shown) if each.answer is not None else ())) for each in exchanges]


def _contents(exchanged: Exchanged) -> list[Any]:
    """The request, and the answer if there is one."""
    request = AsText(exchanged.request) if exchanged.as_text else exchanged.request
    if exchanged.answer is None:
        return [request]
    if exchanged.answer.too_large:
        raise Withheld(_TOO_LARGE)
    return [request, exchanged.answer.content()]


def _show_contents(contents: Sequence[Any], redactor: Redactor) -> list[Shown]:
    """In C what can be, the rest together."""
    ours = [type(each) is OwnDocument for each in contents]
    datas = [each.data if own else each if type(each) is bytes else b"" for each, own in zip(contents, ours, strict=True)]
    shown = [None if text is None else cut(text) for text in redactor.show(datas, ours)]
    left = {place: Opened(content) for place, content in enumerate(contents) if shown[place] is None}
    redacted = redactor.redact_all([text for opened in left.values() for text in opened.texts]) if left else []
    at = 0
    for place, opened in left.items():
        shown[place] = opened.show(redacted[at : at + len(opened.texts)])
        at += len(opened.texts)
    return shown  # type: ignore[return-value]
