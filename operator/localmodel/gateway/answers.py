"""Sending a whole answer: the headers every answer has, bytes counted, never waiting for a slow reader past the deadline."""

import asyncio
from time import monotonic

from aiohttp import web

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange

JSON = "application/json"
_ERROR_SECONDS = 10.0
"""For a client that does not read its error."""


class ReaderTooSlow(Exception):
    """The client did not take the answer in time; the connection has been cut."""


def common_headers(exchange: Exchange, status: int) -> dict[str, str]:
    """Marks the head as sent, which is what the overhead counts up to."""
    exchange.head_sent(status)
    overhead = (exchange.record.overhead_seconds or 0.0) * 1000
    return {
        "x-request-id": exchange.record.request_id,
        "x-gateway-overhead-ms": f"{overhead:.3f}",
        "cache-control": "no-cache",
        "server": "localmodel",
        **exchange.headers,
        **({"traceresponse": exchange.trace.parent} if exchange.trace is not None else {}),
    }


async def send(
    request: web.BaseRequest,
    exchange: Exchange,
    status: int,
    body: bytes,
    *,
    content_type: str = JSON,
    headers: dict[str, str] | None = None,
    until: float,
    close: bool = False,
) -> web.StreamResponse:
    response = web.Response(
        status=status,
        body=body,
        headers={**common_headers(exchange, status), "content-type": content_type, **(headers or {})},
    )
    if close:
        response.force_close()
    await finish(request, response, until)
    exchange.sent(body)
    return response


async def finish(request: web.BaseRequest, response: web.StreamResponse, until: float) -> None:
    try:
        async with asyncio.timeout(until - monotonic()):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ReaderTooSlow from None


async def send_error(
    request: web.BaseRequest, exchange: Exchange, error: errors.ApiError, *, close: bool = False
) -> web.StreamResponse:
    """In OpenAI's form, or Triton's for its routes. Closes the exchange."""
    body = error.body()
    if exchange.record.endpoint == "v2":
        body = errors.triton_body(error.message)
    until = monotonic() + _ERROR_SECONDS
    try:
        return await send(request, exchange, error.status, body, headers=error.headers(), until=until, close=close)
    except ReaderTooSlow:
        raise ConnectionResetError("the client does not read") from None
    finally:
        exchange.close(error.outcome, error.code)
