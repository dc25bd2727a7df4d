"""The HTTP entry of one port: it makes connections, and sees to it that every request ends in an answer or a record.

What aiohttp does with broken HTTP is mended in `connection`. Nothing in this module knows a route.
"""

import asyncio
import logging
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from localmodel.gateway import errors, intake
from localmodel.gateway.answers import ReaderTooSlow, send_error
from localmodel.gateway.connection import HEAD_LIMIT, URL_LIMIT, Connection
from localmodel.gateway.exchange import Exchange

log = logging.getLogger("localmodel.gateway.server")

IDLE_SECONDS = 75.0
MAX_CONNECTIONS = 4096
"""At more, whoever has been connected longest without a running request has to go; if all run, the newcomer."""
_LINGER_SECONDS = 2.0
_CLOSING = (408, 413, 431, 501, 505)
"""Where the next request starts is uncertain, or too much would have to be read."""


class Site(Protocol):
    """What answers on one port."""

    def open(self, message: RawRequestMessage | None, client: str | None) -> Exchange: ...

    async def respond(self, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse: ...


class Listener(web.Server):
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

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > MAX_CONNECTIONS:
            idle = (each for each in self._connections if isinstance(each, Connection) and each.idle)
            next(idle, handler).force_close()

    def unread(self, message: RawRequestMessage | None) -> None:
        """A request whose client left before anybody could look at it."""
        self.site.open(message, None).close("client_closed")

    def _new_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if message.upgrade or message.method == "CONNECT":
            message = message._replace(should_close=True)
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
            if request._version == HttpVersion10 and "transfer-encoding" in request.headers:
                raise errors.http_not_implemented(501, "HTTP/1.0 has no transfer encodings.")
            if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > HEAD_LIMIT:
                raise errors.too_large(431, "request head", HEAD_LIMIT)
            return await self.site.respond(request, exchange)
        except errors.ApiError as error:
            broken = isinstance(request.protocol, Connection) and request.protocol.broken
            return await send_error(request, exchange, error, close=error.status in _CLOSING or broken)
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
            intake.room.give_back(request.protocol)
            exchange.close("client_closed" if exchange.record.status is None else "internal_error")
