"""The HTTP entry: aiohttp's protocol with its gaps closed.

aiohttp alone never times out an incomplete head, answers malformed HTTP in text/plain, and lets a half-closed or
never-started request vanish. Here each of these has a JSON answer or a record. Nothing in this module knows a route.
"""

import asyncio
import logging
from typing import Any, Protocol

from aiohttp import http_exceptions, web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from localmodel.gateway import errors
from localmodel.gateway.answers import ReaderTooSlow, send_error
from localmodel.gateway.exchange import Exchange

log = logging.getLogger("localmodel.gateway.server")

HEAD_LIMIT = 32 * 1024
URL_LIMIT = 8 * 1024
HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0
_LINGER_SECONDS = 2.0


class Site(Protocol):
    """What answers on one port."""

    def open(self, message: RawRequestMessage | None, client: str | None) -> Exchange: ...

    async def respond(self, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse: ...


class Connection(RequestHandler):
    """One client connection."""

    def __init__(self, listener: "Listener", **settings: Any) -> None:
        super().__init__(listener, **settings)
        self._listener = listener
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self.exchange: Exchange | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiter is None or self._waiter.done() or self._messages:
            self._stop_head_timer()
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT + URL_LIMIT:
            self._refuse(errors.too_large(431, "request head", HEAD_LIMIT))
        elif self._head_timer is None and data:
            error = errors.body_timeout("request head", HEAD_SECONDS)
            self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._refuse, error)

    def eof_received(self) -> None:
        """A half close counts as leaving, while a request is open; an idle connection just closes."""
        if self.transport is not None and (self._request_in_progress or self._messages):
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        unread = [message for message, _ in self._messages if isinstance(message, RawRequestMessage)]
        current = self.exchange
        super().connection_lost(exc)
        for message in unread:
            self._listener.site.open(message, None).close("client_closed")
        if current is not None and not current.entered:
            current.close("client_closed")

    def _refuse(self, error: errors.ApiError) -> None:
        """Answers a request whose head never completed; there is no handler to do it."""
        exchange = self._listener.site.open(None, None)
        body = error.body()
        exchange.head_sent(error.status)
        if self.transport is not None:
            reason = {408: "Request Timeout", 431: "Request Header Fields Too Large"}[error.status]
            head = (
                f"HTTP/1.1 {error.status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"x-request-id: {exchange.record.request_id}\r\nx-should-retry: false\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        exchange.sent(body)
        exchange.close(error.outcome, error.code)
        self.force_close()

    def _stop_head_timer(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _make_error_handler(self, err_info: Any) -> Any:
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            exchange = self._listener.enter(self)
            return await send_error(request, exchange, malformed(err_info.exc), close=True)

        return handler


def malformed(error: BaseException) -> errors.ApiError:
    """What the parser disliked, as a status: too long an URL, too large a head, or no HTTP."""
    if isinstance(error, http_exceptions.LineTooLong):
        if error.args[1] == URL_LIMIT:
            return errors.too_large(414, "URL", URL_LIMIT)
        return errors.too_large(431, "request head", HEAD_LIMIT)
    text = str(error)
    if "too many" in text.lower():
        return errors.too_large(431, "request head", HEAD_LIMIT)
    if "Invalid HTTP version" in text or "Pause on PRI" in text:
        return errors.http_not_implemented(505, "This version of HTTP is not spoken here.")
    if "Request has invalid `Transfer-Encoding`" in text:
        return errors.http_not_implemented(501, "This transfer encoding is not understood.")
    return errors.bad_request("This is not a valid HTTP/1.1 request.")


class Listener(web.Server):
    """One port: makes connections, and sees to it that every request ends in an answer or a record."""

    def __init__(self, site: Site) -> None:
        super().__init__(
            self._handle,
            request_factory=self._new_request,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            max_line_size=URL_LIMIT,
            max_field_size=HEAD_LIMIT,
        )
        self.site = site
        self.stopping = False

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def _new_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        request = web.BaseRequest(message, payload, protocol, writer, task, self._loop)
        protocol.exchange = self.site.open(message if message.method != "UNKNOWN" else None, request.remote)
        return request

    def enter(self, protocol: Any) -> Exchange:
        exchange: Exchange = protocol.exchange
        exchange.entered = True
        return exchange

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = self.enter(request.protocol)
        try:
            if request._version not in (HttpVersion10, HttpVersion11):
                request._version = HttpVersion11  # aiohttp would repeat the client's in the status line
                raise errors.http_not_implemented(505, "This version of HTTP is not spoken here.")
            if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > HEAD_LIMIT:
                raise errors.too_large(431, "request head", HEAD_LIMIT)
            return await self.site.respond(request, exchange)
        except errors.ApiError as error:
            return await send_error(request, exchange, error, close=error.status in (408, 413, 431, 501, 505))
        except ReaderTooSlow:
            exchange.close("total_timeout", "total_timeout")
            raise ConnectionResetError("the client does not read") from None
        except (asyncio.CancelledError, ConnectionError):
            exchange.close("drained" if self.stopping else "client_closed")
            raise
        except Exception:
            log.exception("request %s failed", exchange.record.request_id)
            if exchange.record.status is not None:
                exchange.close("internal_error", "internal_error")
                raise ConnectionResetError("the answer can't be completed") from None
            return await send_error(request, exchange, errors.internal(), close=True)
        finally:
            exchange.close("client_closed" if exchange.record.status is None else "internal_error")
