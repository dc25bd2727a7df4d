"""Taking in a request's body: its type, size and time are checked before anybody parses it.

All bodies together have a limit too, so that many large ones can't take the memory of the others.
"""

import asyncio
from time import monotonic

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange

_JSON = "application/json"
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
            raise errors.overloaded(1.0)
        self._held[connection] = size
        self._total = total

    def give_back(self, connection: object) -> None:
        self._total -= self._held.pop(connection, 0)


room = BodyRoom(64 * 1024 * 1024)
"""Of this process: memory knows no ports."""


async def read_body(request: web.BaseRequest, exchange: Exchange) -> bytes:
    _check_head(request)
    began = monotonic()
    try:
        return await _receive(request, exchange)
    finally:
        exchange.waited += monotonic() - began


async def _receive(request: web.BaseRequest, exchange: Exchange) -> bytes:
    if (request.content_length or 0) > BODY_LIMIT:
        raise errors.too_large(413, "body", BODY_LIMIT)
    await _continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                exchange.record.bytes_in = len(body)
                if len(body) > BODY_LIMIT:
                    raise errors.too_large(413, "body", BODY_LIMIT)
                if len(body) > SMALL_BODY:
                    room.hold(request.protocol, len(body))
    except TimeoutError:
        raise errors.body_timeout("request body", BODY_SECONDS) from None
    except RequestPayloadError:
        raise errors.bad_request("The request body is not valid HTTP/1.1.") from None
    received = bytes(body)
    if exchange.keep_bodies:
        exchange.request_body = received
    return received


def _check_head(request: web.BaseRequest) -> None:
    if request.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise errors.http_not_implemented(501, "This transfer encoding is not understood.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise errors.unsupported_media_type("Compressed bodies are not accepted. Send the JSON as it is.")
    kind = request.headers.get("content-type", _JSON)  # aiohttp's own reading takes seconds for a thousand semicolons
    if kind.split(";", 1)[0].strip().lower() != _JSON:
        raise errors.unsupported_media_type("Send the body with 'content-type: application/json'.")


async def _continue(request: web.BaseRequest) -> None:
    """Answers a client that waits to be asked for its body, as curl does."""
    expected = request.headers.get("expect")
    if expected is None:
        return
    if expected.strip().lower() != "100-continue":
        raise errors.ApiError(417, None, "Only 'expect: 100-continue' is understood.", outcome="rejected")
    if request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
