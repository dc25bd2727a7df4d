"""Taking in a request's body: its type, size and time are checked before anybody parses it.

All bodies together have a limit too, so that many large ones can't take the memory of the others.
"""

import asyncio
from time import monotonic

from aiohttp.http import HttpVersion11

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.request import BrokenBody, Request

_JSON = "application/json"
_CONTINUE = "100-continue"
OCTETS = "application/octet-stream"
"""Binary tensors behind a JSON head."""
BODY_LIMIT = 8 * 1024 * 1024
BODY_SECONDS = 30.0
SMALL_BODY = 64 * 1024
"""A body's first bytes are always taken: whoever fills the common room with large bodies shuts out only large ones."""


class BodyRoom:
    """Bytes of all bodies that are being received or handled; a connection handles one at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[object, int] = {}
        self._total = 0

    def hold(self, connection: object, size: int) -> None:
        """This connection's body has grown to so many bytes. Raises overloaded."""
        total = self._total + size - self._held.get(connection, 0)
        if total > self._limit:
            raise errors.overloaded(1.0, "Too many large requests are being received at once.")
        self._held[connection] = size
        self._total = total

    def give_back(self, connection: object) -> None:
        self._total -= self._held.pop(connection, 0)


room = BodyRoom(64 * 1024 * 1024)
"""Of this process: memory knows no ports."""


async def read_body(request: Request, exchange: Exchange, kinds: tuple[str, ...] = (_JSON,)) -> bytes:
    _check_head(request, kinds)
    try:
        if request.content.is_eof():
            received = request.content.read_nowait()
            _count(received, request, exchange)
        else:
            received = await _receive(request, exchange)
    except BrokenBody as broken:
        raise broken.answer from None
    if exchange.keep_bodies:
        exchange.request_body = received
    return received


async def _receive(request: Request, exchange: Exchange) -> bytes:
    began = monotonic()
    body = bytearray()
    try:
        _continue(request)
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                _count(body, request, exchange)
    except TimeoutError:
        raise errors.body_timeout("request body", BODY_SECONDS) from None
    finally:
        exchange.waited += monotonic() - began
    return bytes(body)


def _count(body: bytes | bytearray, request: Request, exchange: Exchange) -> None:
    exchange.record.bytes_in = len(body)
    if len(body) > BODY_LIMIT:
        raise errors.too_large(413, "body", BODY_LIMIT)
    if len(body) > SMALL_BODY:
        room.hold(request.connection, len(body))


def _check_head(request: Request, kinds: tuple[str, ...]) -> None:
    if request.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise errors.http_not_implemented(501, "This transfer encoding is not understood.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise errors.unsupported_media_type("Compressed bodies are not accepted. Send the JSON as it is.")
    # A page of another site can make a browser send a body without a type, and be asked for nothing before.
    kind = request.headers.get("content-type", "" if "origin" in request.headers else _JSON)
    # aiohttp's own reading takes seconds for a thousand semicolons.
    if kind not in kinds and kind.split(";", 1)[0].strip().lower() not in kinds:
        raise errors.unsupported_media_type(f"Send the body with 'content-type: {' or '.join(kinds)}'.")
    if int(request.headers.get("content-length", 0)) > BODY_LIMIT:
        raise errors.too_large(413, "body", BODY_LIMIT)
    if request.headers.get("expect", _CONTINUE).strip().lower() != _CONTINUE:
        raise errors.ApiError(
            417, None, "Only 'expect: 100-continue' is understood. Send that, or leave the header out.", outcome="rejected"
        )


def _continue(request: Request) -> None:
    """Answers a client that waits to be asked for its body, as curl does."""
    if "expect" in request.headers and request.version >= HttpVersion11:
        request.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
