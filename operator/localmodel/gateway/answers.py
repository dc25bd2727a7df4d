"""Sending a whole answer: the headers every answer has, bytes counted, never waiting for a slow reader past the deadline."""

from time import monotonic

from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.outgoing import ReaderTooSlow
from localmodel.gateway.reply import whole
from localmodel.gateway.request import Request

JSON = "application/json"
_ERROR_SECONDS = 10.0
"""For a client that does not read its error."""


def common_headers(exchange: Exchange, status: int, content_type: str) -> dict[str, str]:
    """Marks the head as sent, which is what the overhead counts up to."""
    exchange.head_sent(status)
    overhead = (exchange.record.overhead_seconds or 0.0) * 1000
    headers = {
        "x-request-id": exchange.record.request_id,
        "x-gateway-overhead-ms": f"{overhead:.3f}",
        "cache-control": "no-cache",
        "server": "localmodel",
        "content-type": content_type,
        **exchange.headers,
    }
    if exchange.trace is not None:
        headers["traceresponse"] = exchange.trace.parent
    return headers


async def send(
    request: Request,
    exchange: Exchange,
    status: int,
    body: bytes,
    *,
    content_type: str = JSON,
    headers: dict[str, str] | None = None,
    until: float,
    close: bool = False,
) -> None:
    """Raises ReaderTooSlow at `until` (monotonic seconds), ConnectionResetError if the client has left."""
    if close:
        request.keep_alive = False
    head = common_headers(exchange, status, content_type)
    request.connection.write(whole(request, status, {**head, **headers} if headers else head, body))
    if request.connection.writing_paused:
        await request.connection.drained(until)
    exchange.sent(body if request.method != "HEAD" else b"")


async def send_error(request: Request, exchange: Exchange, error: errors.ApiError, *, close: bool = False) -> None:
    """In OpenAI's form, or Triton's for its routes. Closes the exchange."""
    body = error.body()
    if exchange.record.endpoint == "v2":
        body = errors.triton_body(error.message)
    until = monotonic() + _ERROR_SECONDS
    try:
        await send(request, exchange, error.status, body, headers=error.headers(), until=until, close=close)
    except ReaderTooSlow:
        raise ConnectionResetError("the client does not read") from None
    finally:
        exchange.fail(error)
