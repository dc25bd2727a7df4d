"""Taking in a request's body: its type, size and time are checked before anybody parses it."""

import asyncio
from time import monotonic

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange

BODY_LIMIT = 8 * 1024 * 1024
BODY_SECONDS = 30.0


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
    kind = request.headers.get("content-type")
    if kind is not None and request.content_type != "application/json":
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
